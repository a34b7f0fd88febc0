/** The least that a server on Bun can be: what start and idle memory are measured beside. */
Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  routes: { "/health": Response.json({ status: "healthy" }) },
});
