-- The headers of a browser with a session, and a form of 4 KB where LOAD_MODE is post.
local fields = {
  ["Accept"] = "application/json, text/plain, */*",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
  ["Accept-Encoding"] = "gzip, deflate, br",
  ["Accept-Language"] = "en-GB,en;q=0.5",
  ["Cookie"] = "sessionid=abcdefghijklmnopqrstuvwxyz012345; csrftoken=0123456789abcdef0123456789abcdef",
}
local visitor = os.getenv("LOAD_VISITOR")
if visitor then fields["Cookie"] = fields["Cookie"] .. "; strangler_visitor=" .. visitor end

if os.getenv("LOAD_MODE") == "post" then
  wrk.method = "POST"
  wrk.body = string.rep("x=0123456789abcd&", 256):sub(1, 4096)
  fields["Content-Type"] = "application/x-www-form-urlencoded"
end
for name, value in pairs(fields) do wrk.headers[name] = value end
if os.getenv("LOAD_MODE") == "vary" then
  local cookie, count = fields["Cookie"], 0
  request = function()
    count = count + 1
    wrk.headers["Cookie"] = cookie .. "; count=" .. count
    return wrk.format()
  end
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %.1f %.1f\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout + e.status, latency:percentile(50), latency:percentile(99)))
end
