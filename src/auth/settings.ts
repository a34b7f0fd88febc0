/** What of the configuration says who may do what. */

export interface ApiKey {
  role: "admin" | "service";
  secret: string;
}

/** How users' tokens are signed, and what they have to say. */
export interface JwtConfig {
  readonly secret: string;
  readonly issuer: string;
  readonly audience: string;
}

/** Issuer and audience of users' tokens where none is set. */
export const defaultJwtName = "parley";
/** HMAC-SHA256 wants a key at least as long as its hash (RFC 7518, 3.2). */
const jwtSecretBytesMin = 32;

/** The entries of a comma-separated list. */
export const list = (text: string | null): string[] =>
  (text ?? "")
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");

export function parseApiKeys(text: string | null, faults: string[]): readonly ApiKey[] {
  const keys = list(text).map((entry): ApiKey => {
    const [, role, secret] = /^(?:(admin|service):)?(.*)$/.exec(entry)!;
    return { role: role === "admin" ? "admin" : "service", secret: secret! };
  });
  if (keys.some((key) => !/^[\x21-\x7e]{16,}$/.test(key.secret))) {
    faults.push("PARLEY_API_KEYS: each key needs at least 16 visible ASCII characters");
  }
  return Object.freeze(keys);
}

/** Null without a secret: then users have no tokens. */
export function readJwt(read: (name: string) => string | null, faults: string[]): JwtConfig | null {
  const secret = read("PARLEY_JWT_SECRET");
  if (secret === null) return null;
  if (Buffer.byteLength(secret) < jwtSecretBytesMin) {
    faults.push(
      `PARLEY_JWT_SECRET needs at least ${jwtSecretBytesMin} bytes: export PARLEY_JWT_SECRET="$(openssl rand -hex 32)"`,
    );
  }
  const issuer = read("PARLEY_JWT_ISSUER") ?? defaultJwtName;
  const audience = read("PARLEY_JWT_AUDIENCE") ?? defaultJwtName;
  return Object.freeze({ secret, issuer, audience });
}

/** Origins as browsers send them, or `*`. */
export function parseOrigins(text: string | null, faults: string[]): readonly string[] {
  const origins = list(text);
  const isOrigin = (entry: string): boolean =>
    /^https?:[^*]*$/.test(entry) && URL.canParse(entry) && new URL(entry).origin === entry;
  if (origins.some((entry) => entry !== "*" && !isOrigin(entry))) {
    faults.push(
      "PARLEY_CORS_ORIGINS must hold origins as browsers send them, such as https://app.example, or *",
    );
  }
  return Object.freeze(origins);
}
