/** Importing an export: every line is checked, and either all of them are kept or none. */
import { type TypeCheck, TypeCompiler } from "@sinclair/typebox/compiler";
import { faultsMax, toFaults } from "../http/faults.ts";
import type { ArchiveImport, ArchiveRecord, ArchiveRecordType } from "../storage/archive-store.ts";
import { endType, formatVersion, headerType, linesOf } from "./lines.ts";
import { recordSchemas } from "./schema.ts";

/** A turn's reply is the longest thing in a line: a million characters by default, at most 6 bytes each. */
const lineBytesMax = 64 * 1024 * 1024;

/** What of a record tells to which conversation or document it belongs. */
const ownerKeys = ["conversation_id", "document_id"] as const;

export interface LineFault {
  line: number;
  message: string;
}

export interface Imported {
  /** Why nothing was imported; empty where all was. */
  faults: LineFault[];
  /** How many records of each kind are new, and how many were there. */
  kept: Record<ArchiveRecordType, number>;
  known: Record<ArchiveRecordType, number>;
}

const types = Object.keys(recordSchemas) as ArchiveRecordType[];
const none = () => Object.fromEntries(types.map((type) => [type, 0])) as Record<ArchiveRecordType, number>;

/** Imports a file; up to 64 faults are told. @throws storage_unavailable */
export async function importArchive(
  file: AsyncIterable<Uint8Array>,
  archive: ArchiveImport,
): Promise<Imported> {
  const imported: Imported = { faults: [], kept: none(), known: none() };
  const { faults } = imported;
  const read = new RecordReader();
  let number = 0;
  for await (const { number: current, bytes } of linesOf(file, lineBytesMax)) {
    number = current;
    const outcome = read.line(number, bytes);
    if (typeof outcome === "string") faults.push({ line: number, message: outcome });
    if (faults.length >= faultsMax || read.isForeign) return imported;
    if (outcome === null || typeof outcome === "string") continue;
    const kept = await archive.keep(outcome);
    if (typeof kept === "string") imported[kept][outcome.type]++;
    else {
      faults.push({ line: number, message: kept.refused });
      read.passOver(outcome);
    }
  }
  if (!read.isWhole) faults.push({ line: number, message: "the file ends here, in the middle of an export" });
  if (faults.length > 0) return imported;
  const unfinished = await archive.finish();
  if (unfinished !== null) faults.push({ line: number, message: unfinished });
  return imported;
}

/** From lines to records. */
class RecordReader {
  readonly #checks = new Map<string, TypeCheck<(typeof recordSchemas)[ArchiveRecordType]>>();
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #records = 0;
  /** The conversation or document that had a fault: what follows it would only repeat that. */
  #faulty: string | null = null;
  #hasEnded = false;
  /** It is no export that this version knows: nothing more is read. */
  isForeign = false;

  get isWhole(): boolean {
    return this.#hasEnded;
  }

  /** What belongs to a record that was refused isn't looked at. */
  passOver(record: object): void {
    if ("id" in record && typeof record.id === "string") this.#faulty = record.id;
  }

  /** The record of a line, null where it holds none to keep, or what is wrong with it. */
  line(number: number, bytes: Uint8Array | null): ArchiveRecord | string | null {
    if (this.#hasEnded) return "there is more after the end";
    const value = this.#parse(bytes);
    if (typeof value === "string") {
      this.isForeign = number === 1;
      this.#records++;
      return value;
    }
    const type = "type" in value ? value.type : undefined;
    if (number === 1) return this.#header(value, type);
    if (type === endType) return this.#end(value);
    this.#records++;
    const owner = ownerKeys
      .map((key) => (value as Record<string, unknown>)[key])
      .find((id) => typeof id === "string");
    if (owner !== undefined && owner === this.#faulty) return null;
    const fault = this.#faultOf(value, type);
    if (fault !== null) {
      this.passOver(value);
      return fault;
    }
    return value as ArchiveRecord;
  }

  #parse(bytes: Uint8Array | null): object | string {
    if (bytes === null) return `it is longer than ${lineBytesMax / 2 ** 20} MiB`;
    try {
      const value: unknown = JSON.parse(this.#decoder.decode(bytes));
      return typeof value === "object" && value !== null ? value : "it is no JSON object";
    } catch {
      return "it is no JSON in UTF-8";
    }
  }

  #header(value: object, type: unknown): string | null {
    const version = "version" in value ? value.version : undefined;
    if (type === headerType && version === formatVersion) return null;
    this.isForeign = true;
    if (type === headerType && Number.isInteger(version) && (version as number) > formatVersion) {
      return `it is an export of form ${version}, this Parley knows ${formatVersion}: use a newer one`;
    }
    return "it isn't the beginning of an export";
  }

  #end(value: object): string | null {
    this.#hasEnded = true;
    const records = "records" in value ? value.records : undefined;
    return records === this.#records
      ? null
      : "it counts other records than there are: some are missing, or there too often";
  }

  #faultOf(value: object, type: unknown): string | null {
    const known = types.find((known) => known === type);
    if (known === undefined) return "its type is no kind of record";
    let check = this.#checks.get(known);
    if (check === undefined) {
      check = TypeCompiler.Compile(recordSchemas[known]);
      this.#checks.set(known, check);
    }
    if (check.Check(value)) return null;
    return toFaults(known, check.Errors(value))
      .map(({ path, message }) => `${path} ${message}`)
      .join("; ");
  }
}
