/** The one way a request's body is read: type, size while reading, UTF-8, JSON. */
import { AppError } from "../errors.ts";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** No good request comes near these, and reporting the faults of a bad one beyond them would stall all others. */
const depthMax = 32;
const valuesMax = 10_000;

/** Small chunks of a body that doesn't tell its size: each costs as much time and memory as hundreds of bytes. */
const smallChunksMax = 20_000;
const smallChunkBytes = 256;

export interface BodyLimits {
  readonly bytesMax: number;
  readonly secondsMax: number;
}

/**
 * Reads a JSON body. An absent one is undefined.
 * @throws unsupported_media_type, malformed_json, and what `readBytes` throws
 */
export async function readJsonBody(request: Request, limits: BodyLimits): Promise<unknown> {
  if (request.body === null) return undefined;
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new AppError("unsupported_media_type", { detail: "The body must be application/json." });
  }
  const bytes = await readBytes(request, limits);
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw new AppError("malformed_json", { detail: "The body is not valid UTF-8." });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new AppError("malformed_json", { detail: "The body is not valid JSON." });
  }
  if (!isModest(value, depthMax, { left: valuesMax })) {
    throw new AppError("malformed_json", {
      detail: `The body holds more than ${valuesMax} values, or nests them deeper than ${depthMax} levels.`,
    });
  }
  return value;
}

/** Whether a value is at most so deep and holds at most so many values. */
function isModest(value: unknown, depth: number, values: { left: number }): boolean {
  if (--values.left < 0) return false;
  if (value === null || typeof value !== "object") return true;
  // Object.values of a list of 500,000 entries takes 0.4 s.
  const members: unknown[] = Array.isArray(value) ? value : Object.values(value);
  return depth > 0 && members.every((member) => isModest(member, depth - 1, values));
}

/**
 * The bytes of a body; what is beyond the limits is never held in memory.
 * @throws payload_too_large, unsupported_media_type where they are compressed, invalid_request where they don't arrive
 * in time
 */
export async function readBytes(request: Request, { bytesMax, secondsMax }: BodyLimits): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array();
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (!/^identity$/i.test(encoding)) {
    const detail = "The body must not be compressed: send it without Content-Encoding.";
    throw new AppError("unsupported_media_type", { detail, headers: { "accept-encoding": "identity" } });
  }
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > bytesMax) throw tooLarge(`${bytesMax} bytes`);
  const arriving = declared > 0 ? request.bytes() : readChunks(request.body, bytesMax);
  const { promise: late, reject } = Promise.withResolvers<never>();
  const tell = (): void => {
    const detail = `The body did not arrive within ${secondsMax} s.`;
    reject(new AppError("invalid_request", { detail, headers: { connection: "close" } }));
  };
  // setTimeout turns a delay beyond 31 bits into 1 ms.
  const timer = setTimeout(tell, Math.min(secondsMax * 1000, 2 ** 31 - 1));
  try {
    return await Promise.race([arriving, late]);
  } catch (error) {
    // The client has gone, which is no fault of ours.
    if (request.signal.aborted) throw new AppError("invalid_request", { detail: "The body broke off." });
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function readChunks(body: ReadableStream<Uint8Array>, bytesMax: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > bytesMax) throw tooLarge(`${bytesMax} bytes`);
    const small = chunks.push(chunk) - size / smallChunkBytes;
    if (small > smallChunksMax) throw tooLarge(`${smallChunksMax} small chunks`);
  }
  return Buffer.concat(chunks);
}

const tooLarge = (most: string): AppError =>
  new AppError("payload_too_large", { detail: `The body may have at most ${most}.` });
