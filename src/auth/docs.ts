/** What /docs says about the routes of keys and users' tokens. */
import { common, exampleIds, json, naming, operation, taking } from "../http/docs.ts";

const tag = "Keys";

const key = {
  id: exampleIds.key,
  object: "key",
  name: "web shop",
  prefix: "parley_000000005ec7",
  role: "service",
  workspace: "acme",
  user_id: null,
  created_at: 1_785_000_000,
  expires_at: null,
  last_used_at: 1_785_000_600,
  revoked_at: null,
};

const text = `${key.prefix}_${"0123456789abcdef".repeat(4)}`;

export const docs = {
  create: operation({
    tag,
    id: "createKey",
    summary: "Make a key",
    description:
      "Takes an admin key. The new one is shown in this answer alone. No key makes one that may do more than itself: an admin key of the database makes keys of its own workspace only, which work no longer than itself; an admin key of `PARLEY_API_KEYS`, and `parley keys create`, may name any workspace.",
    body: {
      service: {
        summary: "For a program that acts for all users",
        value: { name: "web shop", role: "service" },
      },
      user: {
        summary: "For one user, for a while",
        value: { name: "Ada's script", role: "user", user_id: "ada", expires_at: 4_000_000_000 },
      },
      tenant: {
        summary: "For another workspace",
        value: { name: "Acme's admin", role: "admin", workspace: "acme" },
      },
    },
    answers: { 201: json("The new key, this once.", { ...key, last_used_at: null, key: text }) },
    problems: [...common, ...taking],
  }),
  list: operation({
    tag,
    id: "listKeys",
    summary: "List keys",
    description:
      "Takes an admin key: one of the database lists its workspace's keys, one of `PARLEY_API_KEYS` those of all. The newest first; no secrets.",
    answers: { 200: json("A page.", { keys: [key], has_more: true, next_after: "WyJrZXlfIl0" }) },
    problems: common,
  }),
  revoke: operation({
    tag,
    id: "revokeKey",
    summary: "Revoke a key",
    description:
      "Takes an admin key. Within 2 seconds the key works nowhere any more, and its open streams end; the turns that they watched run on. Again it changes nothing.",
    answers: { 200: json("It works no more.", { ...key, revoked_at: 1_785_000_900 }) },
    problems: naming,
  }),
  createToken: operation({
    tag,
    id: "createUserToken",
    summary: "Make a token for a user",
    description:
      "Takes a service or admin key, and makes a short-lived JWT that a browser may hold: it acts for this user alone, in the key's workspace. Where the service has no `PARLEY_JWT_SECRET` it makes none (403). A token can't be revoked; revoking the key that made it doesn't end it.",
    body: {
      default: { summary: "For 15 minutes", value: {} },
      hour: { summary: "For an hour", value: { expires_in: 3600 } },
    },
    answers: {
      201: json("The token.", {
        object: "token",
        token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl",
        user_id: "ada",
        workspace: "acme",
        expires_at: 1_785_000_900,
      }),
    },
    problems: [...common, ...taking],
  }),
};
