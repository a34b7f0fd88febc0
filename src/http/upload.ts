/** How a document comes: as JSON, or as a multipart upload (RFC 7578) of a file and fields. */
import { AppError, type Fault } from "../errors.ts";
import { type BodyLimits, readBytes, readJsonBody } from "./body.ts";
import { publicName } from "./faults.ts";

/** Larger JSON would hold up everybody while it is parsed; a file of an upload isn't parsed here. */
const jsonBytesMax = 4 * 1024 * 1024;
/** No good upload has more: a file and some fields. */
const partsMax = 32;
/** No good metadata has more, however its characters are escaped. */
const metadataCharsMax = 64 * 1024;

export interface UploadedFile {
  name: string;
  /** As its part says; null where it says nothing. */
  media_type: string | null;
  bytes: Uint8Array;
}

/** A request's fields, still to be validated, and its file; null where it came as JSON. */
export class Upload {
  constructor(
    readonly fields: unknown,
    readonly file: UploadedFile | null,
  ) {}
}

/**
 * Reads a document's body.
 * @throws unsupported_media_type, payload_too_large, malformed_json, invalid_request
 */
export async function readUpload(request: Request, limits: BodyLimits): Promise<Upload> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^multipart\/form-data\s*;/i.test(type)) {
    if (/^application\/json\s*(;|$)/i.test(type) || request.body === null) {
      return new Upload(
        await readJsonBody(request, { ...limits, bytesMax: Math.min(jsonBytesMax, limits.bytesMax) }),
        null,
      );
    }
    throw new AppError("unsupported_media_type", {
      detail: "Send a document as application/json, or as multipart/form-data with a file.",
    });
  }
  const boundary = boundaryOf(type);
  const bytes = await readBytes(request, limits);
  if (partsIn(bytes, boundary) > partsMax) throw malformed(`The upload has more than ${partsMax} parts.`);
  let form: FormData;
  try {
    // The boundary by which the parts were counted, in words that have one reading.
    const headers = { "content-type": `multipart/form-data; boundary="${boundary}"` };
    form = (await new Response(bytes, { headers }).formData()) as FormData;
  } catch {
    throw malformed("The body is not valid multipart/form-data.");
  }
  return await toUpload(form);
}

async function toUpload(form: FormData): Promise<Upload> {
  const fields: Record<string, unknown> = Object.create(null);
  const faults: Fault[] = [];
  let file: UploadedFile | null = null;
  for (const [name, value] of form as unknown as Iterable<[string, string | Blob]>) {
    const path = `body.${publicName(name)}`;
    if (form.getAll(name).length > 1) faults.push({ path, message: "must be given once" });
    else if (name === "file") {
      if (typeof value === "string") faults.push({ path, message: "must be a file" });
      else file = await toFile(value);
    } else if (typeof value !== "string") faults.push({ path, message: "must be a field, not a file" });
    else if (name === "metadata" && value.length > metadataCharsMax)
      faults.push({ path, message: `must have at most ${metadataCharsMax} characters` });
    else fields[name] = name === "metadata" ? jsonOr(value) : value;
  }
  if (file === null && !faults.some(({ path }) => path === "body.file")) {
    faults.push({ path: "body.file", message: "is required" });
  }
  const [fault] = faults;
  if (fault !== undefined) {
    const each = [...new Map(faults.map((fault) => [`${fault.path} ${fault.message}`, fault])).values()];
    throw new AppError("invalid_request", { detail: "The upload has faults.", faults: each });
  }
  return new Upload({ ...fields }, file);
}

async function toFile(blob: Blob): Promise<UploadedFile> {
  const name = "name" in blob ? String(blob.name ?? "") : "";
  return { name, media_type: blob.type || null, bytes: new Uint8Array(await blob.arrayBuffer()) };
}

/** A field that holds JSON; what doesn't is left as it is, for the schema to refuse. */
function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The boundary that a Content-Type names, of RFC 2046's characters. @throws invalid_request where it isn't one */
function boundaryOf(type: string): string {
  const [boundary, another] = type.matchAll(/;\s*boundary=(?:"([^"]*)"|([^;\s]*))/gi);
  const name = boundary?.[1] ?? boundary?.[2] ?? "";
  if (another === undefined && /^[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]$/.test(name)) return name;
  throw malformed("The Content-Type names no boundary.");
}

/** How many parts a body has, at most: its delimiter may also stand in a file, which then can't be read anyway. */
function partsIn(bytes: Uint8Array, boundary: string): number {
  const delimiter = `--${boundary}`;
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let parts = 0;
  for (
    let at = body.indexOf(delimiter);
    at >= 0 && parts <= partsMax + 1;
    at = body.indexOf(delimiter, at + 1)
  )
    parts++;
  return parts - 1;
}

const malformed = (detail: string): AppError => new AppError("invalid_request", { detail });
