/**
 * Which trace a request belongs to, by W3C Trace Context (https://www.w3.org/TR/trace-context/): taken in, told in the
 * log, and passed on. Parley begins no trace and records no spans of its own.
 */

export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly trace_id: string;
  /** Two hexadecimal digits: whether the trace is sampled, and whether its id is random. */
  readonly flags: string;
  /** What tracing systems say to each other, as it came; null where they say nothing. */
  readonly state: string | null;
}

/** What joins the lines of the log that belong together. */
export interface Correlation {
  readonly request_id: string;
  readonly trace: TraceContext | null;
}

const traceparent = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const onlyZeros = /^0+$/;
/** The flags that this version of the standard knows; the others are to be passed on as zero. */
const flagsKnown = 0b11;

const stateMember =
  /^[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;
const stateMembersMax = 32;
const stateCharsMax = 512;

/** The trace of a request; null where it names none, or none that the standard allows: it is then ignored. */
export function traceContextOf(headers: Headers): TraceContext | null {
  const parts = traceparent.exec(headers.get("traceparent") ?? "");
  if (parts === null) return null;
  const [, version, trace_id = "", parent = "", flags = "", more] = parts;
  if (version === "ff" || onlyZeros.test(trace_id) || onlyZeros.test(parent)) return null;
  // A later version may say more after what this one knows.
  if (version === "00" && more !== undefined) return null;
  const known = Number.parseInt(flags, 16) & flagsKnown;
  return { trace_id, flags: known.toString(16).padStart(2, "0"), state: stateOf(headers.get("tracestate")) };
}

/** Whole members only, the last of which go first where there is too much; null where any breaks the standard. */
function stateOf(header: string | null): string | null {
  const members = (header ?? "").split(",").flatMap((text) => text.trim() || []);
  const keys = new Set(members.map((member) => member.split("=")[0]));
  if (members.length > stateMembersMax || keys.size < members.length) return null;
  if (!members.every((member) => stateMember.test(member))) return null;
  while (members.join(",").length > stateCharsMax) members.pop();
  return members.join(",") || null;
}

/** The headers of one request that belongs to a trace: each call names a new parent. */
export function traceHeaders({ trace_id, flags, state }: TraceContext): Record<string, string> {
  const parent = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
  return {
    traceparent: `00-${trace_id}-${parent}-${flags}`,
    ...(state !== null && { tracestate: state }),
  };
}
