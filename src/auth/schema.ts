/** What the routes of keys and users' tokens take and give. */
import { type Static, t } from "elysia";
import { userId } from "../chat/schema.ts";
import { exampleIds } from "../http/docs.ts";
import { pageEnd, pageQuery } from "../http/paging.ts";
import {
  id,
  idParam,
  integer,
  nullable,
  oneOf,
  strictObject,
  text,
  textOfForm,
  time,
} from "../http/strict.ts";
import { keyCursor } from "./cursors.ts";
import { isWorkspace, workspaceFault, workspacePattern } from "./workspace.ts";

const role = () =>
  oneOf(["admin", "service", "user"], {
    description:
      "`admin` manages the keys of its workspace, and may do what a service may; `service` acts for any user of its workspace; `user` is bound to one.",
  });

export const keyRequest = strictObject(
  {
    name: text({
      minLength: 1,
      maxLength: 100,
      pattern: "\\S",
      description: "What it is for, to tell it from others.",
      examples: ["web shop"],
    }),
    role: role(),
    workspace: t.Optional(
      nullable(
        textOfForm("workspace", workspaceFault, isWorkspace, {
          maxLength: 64,
          pattern: workspacePattern,
          description:
            "The workspace it is for, which comes into being by that; the one of the key that makes it if left out. Only an admin key of PARLEY_API_KEYS may name another one.",
          examples: ["acme"],
        }),
      ),
    ),
    user_id: t.Optional(nullable(userId(), { description: "Whom a key of the role `user` is bound to." })),
    expires_at: t.Optional(
      nullable(integer({ minimum: 0, maximum: 1e11 }), {
        description: "It works until then; left out, as long as the key that makes it.",
      }),
    ),
  },
  { title: "KeyRequest" },
);
export type KeyRequest = Static<typeof keyRequest>;

const keyProperties = {
  id: id("key"),
  object: t.Literal("key"),
  name: t.String(),
  prefix: t.String({ description: "How its text begins." }),
  role: role(),
  workspace: t.String(),
  user_id: nullable(t.String(), { description: "Whom it is bound to, where its role is `user`." }),
  created_at: time(),
  expires_at: nullable(time(), { description: "It works until then; null where it doesn't expire." }),
  last_used_at: nullable(time(), { description: "To the minute; null where it was never used." }),
  revoked_at: nullable(time(), { description: "It works no more since then; null while it does." }),
};

export const key = strictObject(keyProperties, { title: "Key" });
export type Key = Static<typeof key>;

export const newKey = strictObject(
  {
    ...keyProperties,
    key: t.String({ description: "The key itself. It is shown this once: only a hash of it is kept." }),
  },
  { title: "NewKey" },
);

export const keyParams = strictObject({
  id: idParam({ description: "The key.", examples: [exampleIds.key] }),
});

export const keysQuery = strictObject({
  ...pageQuery(keyCursor),
});

export const keyPage = strictObject(
  {
    keys: t.Array(key, { description: "Newest first, those too that don't work any more." }),
    ...pageEnd(),
  },
  { title: "KeyPage" },
);

export const tokenParams = strictObject({ user_id: userId() });

export const tokenSeconds = { default: 900, max: 86_400 };

export const tokenRequest = strictObject(
  {
    expires_in: t.Optional(
      nullable(
        integer({
          minimum: 1,
          maximum: tokenSeconds.max,
          description: `Seconds that it works, at most ${tokenSeconds.max}; ${tokenSeconds.default} if left out, and never longer than the key that asks.`,
        }),
      ),
    ),
  },
  { title: "TokenRequest" },
);

export const userToken = strictObject(
  {
    object: t.Literal("token"),
    token: t.String({ description: "A JWT, to be sent as `Authorization: Bearer`." }),
    user_id: t.String({ description: "Whom it acts for, and nobody else." }),
    workspace: t.String(),
    expires_at: time({ description: "It works until then." }),
  },
  { title: "UserToken" },
);
