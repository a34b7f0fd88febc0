/** A process that reads one document, as a service does, and tells on stdout when it has begun. For tests that kill it. */
import { Extractor } from "../../src/documents/extractor.ts";
import { endlessDocument } from "./documents.ts";

const extractor = new Extractor({
  documentSecondsMax: 600,
  documentMemoryMibMax: 1_024,
  documentCharsMax: 50_000_000,
});
const reading = extractor.extract(endlessDocument());
console.log("reading");
await reading;
