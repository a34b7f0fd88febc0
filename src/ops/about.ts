/** What the OpenAPI document says beside its routes. */
import { version } from "../version.ts";

const description = `
A *turn* is one user message and the reply to it; it runs to its end whether or not anyone is connected, and a connection only watches it.

**Keys.** Send one of the service's keys as \`Authorization: Bearer <key>\`, or a user's token. Everything belongs to a workspace, and a key to one of them: an \`admin\` key manages its keys, a \`service\` key acts for any user of it, and a \`user\` key and a token act for one user alone: all others, and what is theirs, are \`not_found\`. What is everybody's, such as a document without \`user_id\`, they read and don't change (403). A service without keys listens on loopback only and serves this machine's own programs, but no web page from elsewhere (403).

**Requests** are JSON in UTF-8. Unknown properties are refused, and so are query parameters given twice. Lengths are counted in UTF-16 code units; no text may hold NUL or an unpaired surrogate. Ids are a prefix and a UUIDv7; one that is unknown, foreign or of a wrong form is \`not_found\`. Times are whole seconds since 1970. Every route stands at its path without \`/v1\` as well.

**Answers** may gain members: ignore what you don't know. Each has an \`X-Request-Id\`: send your own (up to 128 letters, digits and \`_.:-\`) to find a request in the logs.

**Streams** are server-sent events that \`EventSource\` can read with \`onmessage\` alone. Every event's id holds how much of the reply the client has; come back with \`Last-Event-ID\`, at any time, and the rest follows.

**Retries.** With an \`Idempotency-Key\` a request may be sent again without doing its work twice.

**Rate limits** hold where the service sets them: requests a minute and turns at once, for a key, a user or an address. Answers tell in \`RateLimit-Policy\`, \`RateLimit\` and \`x-ratelimit-*-requests\` what is left; what is too much is refused with 429 \`rate_limited\` and \`Retry-After\`.

**Budgets** limit what a user, a key or a workspace may use in a day or month of UTC. A turn reserves the most that it may take, and what doesn't fit is refused with 429 \`budget_exhausted\`, \`Retry-After\` and the budget. The answer that starts a turn tells in \`RateLimit-Policy\` and \`RateLimit\` what is left of those that limit it.

**Errors** are \`application/problem+json\` (RFC 9457). A method that a path doesn't know is answered with 405 and \`Allow\`. Decide by their \`code\`.
`.trim();

export const about = {
  info: {
    title: "Parley",
    summary: "A chatbot backend in one binary",
    description,
    version,
    license: { name: "MIT", identifier: "MIT" },
  },
  servers: [{ url: "/", description: "This service" }],
  security: [{ bearer: [] }],
  tags: [
    { name: "Chat", description: "Turns: start, watch, resume and stop them." },
    { name: "Conversations", description: "What was said, by whom, and what it used." },
    { name: "Documents", description: "What answers are drawn from, and cite." },
    {
      name: "Users",
      description: "What is known about a user: read it, change it, take it along, erase it.",
    },
    { name: "Keys", description: "Who may do what: keys, and tokens for users." },
    { name: "Usage", description: "What was used, by whom, and what it cost." },
    { name: "Operations", description: "Is it alive, is it ready, how is it used." },
  ],
};

export const securitySchemes = {
  bearer: { type: "http", scheme: "bearer", description: "One of the service's keys, or a user's token." },
  ticket: {
    type: "apiKey",
    in: "query",
    name: "ticket",
    description: "The ticket of a turn's `stream_url`. It opens that turn's stream alone.",
  },
};
