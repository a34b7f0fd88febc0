/**
 * The peer that sets the limit: a bare `Bun.serve` that asks the model and passes its bytes on untouched. It reads no
 * request, checks nothing, stores nothing.
 *
 * A process of its own: `bun pass-through.ts <model base URL>` prints its port as its first line.
 */
const upstream = `${process.argv[2]}/chat/completions`;

const init = {
  method: "POST",
  headers: { "content-type": "application/json", authorization: "Bearer bench" },
  body: JSON.stringify({
    model: "bench",
    messages: [{ role: "user", content: "What is a turn?" }],
    stream: true,
    stream_options: { include_usage: true },
  }),
};

const headers = { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" };

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  idleTimeout: 0,
  async fetch() {
    const reply = await fetch(upstream, init);
    return new Response(reply.body, { headers });
  },
});

console.log(server.port);
