-- For wrk: sends uploads if asked to, and reports in JSON with exact figures.
--
--     wrk … -s wrk.lua URL -- [BYTES_OF_BODY]

function init(arguments)
    local bytes = tonumber(arguments[1])
    if bytes then
        wrk.method = "POST"
        wrk.body = string.rep("x", bytes)
        wrk.headers["Content-Type"] = "application/octet-stream"
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\nJSON {"requests": %d, "seconds": %.6f, "p50_us": %d, "p99_us": %d, "max_us": %d, "bytes": %d,'
            .. ' "status_errors": %d, "socket_errors": %d, "timeouts": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency.max,
        summary.bytes, errors.status, errors.connect + errors.read + errors.write, errors.timeout
    ))
end
