-- Answers HEAD as GET without the body; the length that GET would have is told by the transcoder.
function envoy_on_request(handle)
  handle:headers():replace(":method", "GET")
  handle:headers():remove("accept-encoding")  -- the length told is that of the plain answer
end

function envoy_on_response(handle)
  for chunk in handle:bodyChunks() do
    chunk:setBytes("")
  end
end
