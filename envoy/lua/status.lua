-- Gives an answer the HTTP status that its service chose; none but an error's.
function envoy_on_response(handle)
  local headers = handle:headers()
  local chosen = headers:get("x-weft-http-status")
  if chosen == nil then return end
  headers:remove("x-weft-http-status")
  if chosen:match("^[45]%d%d$") then headers:replace(":status", chosen) end
end
