/** Ids are a prefix and a UUIDv7, so that they sort by the time they were made. */
const prefixes = {
  conversation: "conv",
  message: "msg",
  turn: "turn",
  memory: "mem",
  document: "doc",
  revision: "rev",
  key: "key",
  workspace: "ws",
} as const;

export type IdKind = keyof typeof prefixes;

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";

/** A new id of a kind, such as `turn_0199…`. */
export const newId = (kind: IdKind): string => `${prefixes[kind]}_${Bun.randomUUIDv7()}`;

/**
 * What a user's tokens act as: a hash, because users' ids may tell who they are, and principals' ids stand in logs.
 */
export const tokenPrincipalId = (workspace_id: string, user_id: string): string =>
  `token:${new Bun.CryptoHasher("sha256").update(`${workspace_id}\0${user_id}`).digest("hex").slice(0, 32)}`;

/** The regular expression source of an id of a kind, as part of another one. */
export const idSource = (kind: IdKind): string => `${prefixes[kind]}_${uuid}`;

/** The regular expression source that ids of a kind match, for schemas. */
export const idPattern = (kind: IdKind): string => `^${idSource(kind)}$`;

const patterns = Object.fromEntries(
  (Object.keys(prefixes) as IdKind[]).map((kind) => [kind, new RegExp(idPattern(kind))]),
) as Record<IdKind, RegExp>;

/** Whether a string has the form of an id of this kind. */
export const isId = (kind: IdKind, value: string): boolean => patterns[kind].test(value);
