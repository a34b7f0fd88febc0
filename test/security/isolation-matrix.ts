/** Every route of the API with every id that it takes, pointing at somebody else's. */

/** What the victim has. */
export interface Victim {
  conversation: string;
  /** A conversation without a turn. */
  idle: string;
  /** The one of the running turn. */
  busy: string;
  turn: string;
  running: string;
  /** Of the running turn. */
  ticket: string;
  memory: string;
  document: string;
  /** A document of the victim's whole workspace. */
  shared: string;
  key: string;
  idempotencyKey: string;
  /** What was asked with it. */
  said: { user_id: string; message: string };
  cursors: Record<
    "conversations" | "documents" | "memories" | "messages" | "keys" | "usage" | "budgets",
    string
  >;
}

/** Somebody who is not the victim. */
export interface Foreigner {
  name: string;
  key: string;
  /** Whom they may lawfully name: eve in the victim's workspace, a namesake of the victim in another one. */
  user: string;
  /** Whether their key acts for that user alone. */
  isBound: boolean;
  role: "admin" | "service" | "user";
  /** A turn of their own. */
  turn?: string;
}

/** `nothing`: a success that tells and changes nothing of the victim's. Null: no attack for this one. */
export type Expected = number | "nothing" | null;

export interface Attempt {
  /** Which ids of the route are foreign. */
  ids: string[];
  what?: string;
  request(by: Foreigner): {
    path: string;
    query?: Record<string, string>;
    body?: Record<string, unknown>;
    form?: Record<string, string>;
    headers?: Record<string, string>;
  };
  expects(by: Foreigner): Expected;
  /** What the owner's own service key gets; success, unless something is in the way. */
  ofOwner?: "ok" | number;
}

/** The id of a thing is foreign to all of them. */
const thing = (): Expected => 404;
/** A user's id is foreign to those of the same workspace; in another one it is a namesake's, who has nothing. */
const userOrNamesake = ({ user }: Foreigner): Expected => (user === "eve" ? 404 : "nothing");
/** The same, where a namesake's request would do something of their own. */
const userAlone = ({ user }: Foreigner): Expected => (user === "eve" ? 404 : null);
const nothing = (): Expected => "nothing";
/** Managing keys takes an admin, whatever is named. */
const adminOr403 =
  (status: Expected) =>
  ({ role }: Foreigner): Expected =>
    role === "admin" ? status : 403;

export function matrix(victim: Victim): Record<string, Attempt[]> {
  const message = "Tell me";
  const lastEvent = { "last-event-id": `${victim.turn}:3` };

  /** The ways to start a turn. */
  const starting = (path: string): Attempt[] => [
    {
      ids: ["body.user_id"],
      request: () => ({ path, body: { message, user_id: "ada" } }),
      expects: userAlone,
    },
    {
      ids: ["body.conversation_id"],
      request: ({ user }) => ({
        path,
        body: { message, user_id: user, conversation_id: victim.conversation },
      }),
      expects: thing,
    },
    {
      ids: ["body.conversation_id"],
      what: "in which a turn runs",
      request: ({ user }) => ({ path, body: { message, user_id: user, conversation_id: victim.busy } }),
      expects: thing,
      ofOwner: 409,
    },
    {
      ids: ["headers.Idempotency-Key"],
      what: "and the same body",
      request: () => ({ path, body: victim.said, headers: { "idempotency-key": victim.idempotencyKey } }),
      // In another workspace the key is as new as it looks, and starts a turn of their own: see test/auth.
      expects: userAlone,
    },
  ];

  const resuming: Attempt[] = [
    {
      ids: ["headers.Last-Event-ID"],
      request: ({ user }) => ({
        path: "/v1/chat/stream",
        body: { message, user_id: user },
        headers: lastEvent,
      }),
      expects: thing,
    },
    {
      ids: ["headers.Last-Event-ID"],
      what: "of the end",
      request: ({ user }) => ({
        path: "/v1/chat/stream",
        body: { message, user_id: user },
        headers: { "last-event-id": `${victim.turn}:end` },
      }),
      expects: thing,
    },
  ];

  /** A route that names one thing in its path. */
  const named = (path: string, ids: string[], rest: Partial<Attempt> = {}, body?: object): Attempt => ({
    ids,
    request: () => ({ path, ...(body && { body: { ...body } }) }),
    expects: thing,
    ...rest,
  });
  const ofUser = (path: string, body?: object): Attempt =>
    named(`/v1/users/ada${path}`, ["path.user_id"], { expects: userOrNamesake }, body);
  const memory = (body?: object): Attempt[] => [
    named(`/v1/users/ada/memories/${victim.memory}`, ["path.id", "path.user_id"], {}, body),
    {
      ids: ["path.id"],
      what: "under one's own user",
      request: ({ user }) => ({
        path: `/v1/users/${user}/memories/${victim.memory}`,
        ...(body && { body: { ...body } }),
      }),
      expects: thing,
    },
  ];
  const turn = (path: string): Attempt[] => [
    named(`/v1/turns/${victim.turn}${path}`, ["path.id"]),
    named(`/v1/turns/${victim.running}${path}`, ["path.id"], { what: "which runs" }),
  ];
  const conversation = (path = "", body?: object): Attempt[] => [
    named(`/v1/conversations/${victim.conversation}${path}`, ["path.id"], {}, body),
  ];
  const document = (path = ""): Attempt[] => [named(`/v1/documents/${victim.document}${path}`, ["path.id"])];
  /** What is everybody's in its workspace. */
  const shared = (path: string, ofUsers: Expected): Attempt =>
    named(`/v1/documents/${victim.shared}${path}`, ["path.id"], {
      what: "of the whole workspace",
      expects: ({ user }) => (user === "eve" ? ofUsers : 404),
    });

  /** Another workspace's is none; users and keys are looked for in one's own workspace alone. */
  const budget = (body?: object): Attempt[] => [
    named("/v1/budgets/workspaces/acme", ["path.id"], { expects: adminOr403(404), ofOwner: 403 }, body),
    ...["users/ada", `keys/${victim.key}`].map((subject) =>
      named(
        `/v1/budgets/${subject}`,
        ["path.id"],
        { what: subject, expects: ({ role }) => (role === "admin" ? null : 403), ofOwner: 403 },
        body,
      ),
    ),
  ];

  const { cursors } = victim;
  return {
    "POST /v1/chat": starting("/v1/chat"),
    "POST /v1/chat/stream": [...starting("/v1/chat/stream"), ...resuming],
    "GET /v1/chat/stream": [
      {
        ids: ["query.user_id"],
        request: () => ({ path: "/v1/chat/stream", query: { message, user_id: "ada" } }),
        expects: userAlone,
      },
      {
        ids: ["query.conversation_id"],
        request: ({ user }) => ({
          path: "/v1/chat/stream",
          query: { message, user_id: user, conversation_id: victim.conversation },
        }),
        expects: thing,
      },
      {
        ids: ["query.idempotency_key"],
        request: () => ({
          path: "/v1/chat/stream",
          query: { ...victim.said, idempotency_key: victim.idempotencyKey },
        }),
        expects: userAlone,
      },
      {
        ids: ["headers.Idempotency-Key"],
        request: () => ({
          path: "/v1/chat/stream",
          query: victim.said,
          headers: { "idempotency-key": victim.idempotencyKey },
        }),
        expects: userAlone,
      },
      {
        ids: ["headers.Last-Event-ID"],
        request: ({ user }) => ({
          path: "/v1/chat/stream",
          query: { message, user_id: user },
          headers: lastEvent,
        }),
        expects: thing,
      },
    ],
    "POST /v1/turns": starting("/v1/turns"),
    "GET /v1/turns/{id}": turn(""),
    "GET /v1/turns/{id}/stream": [
      ...turn("/stream"),
      {
        ids: ["path.id", "headers.Last-Event-ID"],
        request: () => ({ path: `/v1/turns/${victim.turn}/stream`, headers: lastEvent }),
        expects: thing,
      },
      {
        ids: ["path.id", "query.after"],
        request: () => ({ path: `/v1/turns/${victim.turn}/stream`, query: { after: `${victim.turn}:3` } }),
        expects: thing,
      },
      {
        // An event id of any other turn is a bad request, whether there is such a turn or not.
        ids: ["headers.Last-Event-ID"],
        what: "in the stream of one's own turn",
        request: (by) => ({
          path: `/v1/turns/${by.turn}/stream`,
          headers: { "last-event-id": `${victim.running}:3` },
        }),
        expects: () => 400,
        ofOwner: 400,
      },
      {
        ids: ["query.after"],
        what: "in the stream of one's own turn",
        request: (by) => ({
          path: `/v1/turns/${by.turn}/stream`,
          query: { after: `${victim.running}:3` },
        }),
        expects: () => 400,
        ofOwner: 400,
      },
      {
        // A ticket stands for a key: one of another turn is a wrong one.
        ids: ["query.ticket"],
        what: "in the stream of one's own turn",
        request: (by) => ({ path: `/v1/turns/${by.turn}/stream`, query: { ticket: victim.ticket } }),
        expects: () => 401,
        ofOwner: 401,
      },
    ],
    "GET /v1/turns/{id}/receipt": turn("/receipt"),
    "POST /v1/turns/{id}/stop": turn("/stop"),

    "POST /v1/conversations": [
      {
        ids: ["body.user_id"],
        request: () => ({ path: "/v1/conversations", body: { user_id: "ada" } }),
        expects: userOrNamesake,
      },
      {
        ids: ["headers.Idempotency-Key"],
        request: () => ({
          path: "/v1/conversations",
          body: { user_id: "ada", title: "Striped" },
          headers: { "idempotency-key": victim.idempotencyKey },
        }),
        expects: userOrNamesake,
      },
    ],
    "GET /v1/conversations": [
      {
        ids: ["query.user_id"],
        request: () => ({ path: "/v1/conversations", query: { user_id: "ada" } }),
        expects: userOrNamesake,
      },
      {
        // A cursor is a place in an order, and opens nothing: what comes after it is one's own.
        ids: ["query.after"],
        request: () => ({ path: "/v1/conversations", query: { after: cursors.conversations } }),
        expects: nothing,
      },
      {
        ids: [],
        what: "a search for what the victim said",
        request: () => ({ path: "/v1/conversations", query: { q: "privately zebraic" } }),
        expects: nothing,
      },
    ],
    "GET /v1/conversations/{id}": conversation(),
    "PATCH /v1/conversations/{id}": conversation("", { title: "Mine" }),
    "DELETE /v1/conversations/{id}": conversation(),
    "GET /v1/conversations/{id}/messages": [
      ...conversation("/messages"),
      {
        ids: ["path.id", "query.before"],
        request: () => ({
          path: `/v1/conversations/${victim.conversation}/messages`,
          query: { before: cursors.messages },
        }),
        expects: thing,
      },
    ],
    "GET /v1/conversations/{id}/export": [
      ...conversation("/export"),
      ...conversation("/export?format=markdown"),
    ],

    "POST /v1/documents": [
      {
        ids: ["body.user_id"],
        request: () => ({
          path: "/v1/documents",
          body: { name: "zebraic.md", text: "Something else.", user_id: "ada" },
        }),
        expects: userAlone,
      },
      {
        ids: ["form.user_id"],
        request: () => ({ path: "/v1/documents", form: { user_id: "ada" } }),
        expects: userAlone,
      },
      {
        // What is everybody's is no user's to change.
        ids: [],
        what: "one of the whole workspace",
        request: () => ({ path: "/v1/documents", body: { name: "quaggaic.md", text: "Something else." } }),
        expects: ({ isBound }) => (isBound ? 403 : null),
      },
      {
        ids: [],
        what: "one of the whole workspace, as a file",
        request: () => ({ path: "/v1/documents", form: { name: "quaggaic.md" } }),
        expects: ({ isBound }) => (isBound ? 403 : null),
      },
    ],
    "GET /v1/documents": [
      {
        ids: ["query.user_id"],
        request: () => ({ path: "/v1/documents", query: { user_id: "ada" } }),
        expects: userOrNamesake,
      },
      {
        ids: ["query.after"],
        request: () => ({ path: "/v1/documents", query: { after: cursors.documents } }),
        expects: nothing,
      },
    ],
    "POST /v1/documents/search": [
      {
        ids: ["body.user_id"],
        request: () => ({ path: "/v1/documents/search", body: { query: "zebraic", user_id: "ada" } }),
        expects: userOrNamesake,
      },
      {
        ids: [],
        what: "a search for what the victim has",
        request: () => ({ path: "/v1/documents/search", body: { query: "everything zebraic quaggaic" } }),
        expects: nothing,
      },
    ],
    "GET /v1/documents/{id}": [...document(), shared("", "nothing")],
    "GET /v1/documents/{id}/text": [...document("/text"), shared("/text", "nothing")],
    "DELETE /v1/documents/{id}": [...document(), shared("", 403)],

    "GET /v1/users/{user_id}/profile": [ofUser("/profile")],
    "PATCH /v1/users/{user_id}/profile": [ofUser("/profile", { display_name: "Mine" })],
    "GET /v1/users/{user_id}/memories": [
      ofUser("/memories"),
      {
        ids: ["query.after"],
        request: ({ user }) => ({
          path: `/v1/users/${user}/memories`,
          query: { after: cursors.memories },
        }),
        expects: nothing,
      },
    ],
    "POST /v1/users/{user_id}/memories": [ofUser("/memories", { text: "Is mine." })],
    "GET /v1/users/{user_id}/memories/{id}": memory(),
    "PATCH /v1/users/{user_id}/memories/{id}": memory({ text: "Is mine." }),
    "DELETE /v1/users/{user_id}/memories/{id}": memory().slice(0, 1),
    "GET /v1/users/{user_id}/export": [ofUser("/export")],

    "POST /v1/users/{user_id}/tokens": [
      {
        ids: ["path.user_id"],
        request: () => ({ path: "/v1/users/ada/tokens", body: {} }),
        // In another workspace it is a namesake's token, which finds nothing here: see test/auth.
        expects: ({ role }) => (role === "user" ? 403 : "nothing"),
      },
    ],
    "POST /v1/keys": [
      {
        ids: ["body.workspace"],
        request: () => ({
          path: "/v1/keys",
          body: { name: "mine", role: "service", workspace: "acme" },
        }),
        // Not 404: a name that there is not yet would come into being, for whoever may name it.
        expects: () => 403,
        ofOwner: 403,
      },
      {
        ids: ["body.user_id"],
        request: () => ({ path: "/v1/keys", body: { name: "mine", role: "user", user_id: "ada" } }),
        expects: adminOr403("nothing"),
        ofOwner: 403,
      },
    ],
    "GET /v1/usage": [
      {
        ids: ["query.user_id"],
        request: () => ({ path: "/v1/usage", query: { user_id: "ada" } }),
        expects: userOrNamesake,
      },
      {
        ids: ["query.conversation_id"],
        request: () => ({ path: "/v1/usage", query: { conversation_id: victim.conversation } }),
        expects: thing,
      },
      {
        // A key is one of the words that the ledger is looked through for: what it finds is one's own.
        ids: ["query.key"],
        request: () => ({ path: "/v1/usage", query: { key: victim.key, group_by: "conversation" } }),
        expects: nothing,
      },
      {
        ids: ["query.after"],
        request: () => ({
          path: "/v1/usage",
          query: { group_by: "conversation", after: victim.cursors.usage },
        }),
        expects: nothing,
      },
    ],
    "GET /v1/budgets": [
      {
        ids: ["query.after"],
        request: () => ({ path: "/v1/budgets", query: { after: victim.cursors.budgets } }),
        expects: adminOr403("nothing"),
        ofOwner: 403,
      },
    ],
    "GET /v1/budgets/{scope}/{id}": budget(),
    "PUT /v1/budgets/{scope}/{id}": budget({ tokens_day: 1 }),
    "DELETE /v1/budgets/{scope}/{id}": budget(),
    "POST /v1/admin/backup": [
      {
        ids: [],
        what: "everybody's",
        request: () => ({ path: "/v1/admin/backup" }),
        expects: () => 403,
        ofOwner: 403,
      },
    ],
    // It takes no ids, and tells of nobody.
    "GET /metrics": [],
    "GET /v1/keys": [
      {
        ids: ["query.after"],
        request: () => ({ path: "/v1/keys", query: { after: cursors.keys } }),
        expects: adminOr403("nothing"),
        ofOwner: 403,
      },
    ],
    "DELETE /v1/keys/{id}": [
      named(`/v1/keys/${victim.key}`, ["path.id"], { expects: adminOr403(404), ofOwner: 403 }),
    ],
    // The last one, because who is erased loses the keys that are bound to them.
    "DELETE /v1/users/{user_id}": [
      named("/v1/users/ada", ["path.user_id"], {
        expects: ({ user, isBound }) => (user === "eve" ? 404 : isBound ? null : "nothing"),
      }),
    ],
  };
}
