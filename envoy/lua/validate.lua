-- Answers 304 to a caller whose copy is current. The cache behind would not serve a conditional request.
function envoy_on_request(handle)
  local known = handle:headers():get("if-none-match")
  if known then
    handle:streamInfo():dynamicMetadata():set("weft.etag", "known", known)
    handle:headers():remove("if-none-match")
  end
end

function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata():get("weft.etag")
  if noted == nil then return end
  local headers = handle:headers()
  local tag = headers:get("etag")
  if headers:get(":status") ~= "200" or tag == nil then return end
  local bare = tag:gsub("^W/", "")
  local current = noted["known"] == "*"
  for each in noted["known"]:gmatch('"[^"]*"') do
    if each == bare then current = true end
  end
  if current then
    headers:replace(":status", "304")
    headers:remove("content-type")
    headers:remove("content-length")
    local body = handle:body(true)
    if body then body:setBytes("") end
  end
end
