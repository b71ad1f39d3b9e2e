-- Answers HEAD as GET without the body.
function envoy_on_request(handle)
  handle:headers():replace(":method", "GET")
  handle:clearRouteCache()
end

function envoy_on_response(handle)
  local body = handle:body(true)
  local length = body and body:length() or 0
  if body then body:setBytes("") end
  handle:headers():replace("content-length", tostring(length))
end
