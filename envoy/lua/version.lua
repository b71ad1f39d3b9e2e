-- Gives a path without version the one that header, media type or query name.
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path:match("^/v%d+/") then return end
  local named = headers:get("x-api-version")
    or (headers:get("accept") or ""):lower():match("vnd%.weft%.(v%d+)%+json")
    or path:match("[?&]api%-version=(v?%d+)")
  local number = named and named:match("^v?(%d+)$")
  if number then
    headers:replace(":path", "/v" .. number .. path)
    handle:clearRouteCache()
  end
end
