-- The same request again and again: nginx + Lua chooses account and id itself.
wrk.method = "POST"
wrk.body = '{"account":"u_42","key":"tk_9","platform":"openai","amount":5,"ttl_ms":60000}'
wrk.headers["content-type"] = "application/json"
