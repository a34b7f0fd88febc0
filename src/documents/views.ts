/** Documents as clients see them. */
import type { DocumentRecord, DocumentScope } from "../storage/document-store.ts";
import type { Store } from "../storage/store.ts";
import type { DocumentView } from "./schema.ts";

export const toDocument = (record: DocumentRecord): DocumentView => ({ ...record, object: "document" });

/** A document's text, part by part. */
export async function* textOf(
  store: Store,
  scope: DocumentScope,
  id: string,
): AsyncGenerator<string, void, void> {
  for (let from = 0; ; ) {
    const part = await store.documentText(scope, id, from);
    if (part === null) return;
    yield part.text;
    from = part.start + part.text.length;
  }
}
