/** What the tests of documents ask again and again. */
import type { DocumentView } from "../../src/documents/schema.ts";
import { type Answer, type Service, until } from "./service.ts";

export interface SearchResult {
  document_id: string;
  name: string;
  heading: string;
  quote: string;
  start: number;
  end: number;
  score: number;
}

/** Adds a document as JSON and waits until it is processed. */
export async function addDocument(
  service: Service,
  body: { name: string; text: string } & Record<string, unknown>,
  headers: Record<string, string> = {},
): Promise<DocumentView> {
  const answer = await service.post<DocumentView>("/v1/documents", body, headers);
  if (answer.status > 202) throw new Error(`not added: ${JSON.stringify(answer.body)}`);
  return await settled(service, answer.body, headers);
}

/** A document when it is processed, however that went. */
export async function settled(
  service: Service,
  document: DocumentView,
  headers: Record<string, string> = {},
): Promise<DocumentView> {
  let present = document;
  await until(
    "the document is processed",
    async () => {
      present = (await service.get<DocumentView>(`/v1/documents/${document.id}`, headers)).body;
      return present.status !== "processing";
    },
    60_000,
  );
  return present;
}

/** Uploads a file with fields. */
export async function upload(
  service: Service,
  name: string,
  content: Uint8Array<ArrayBuffer> | string,
  fields: Record<string, string> = {},
): Promise<Answer<DocumentView>> {
  const form = new FormData();
  for (const [field, value] of Object.entries(fields)) form.set(field, value);
  form.set("file", new Blob([content]), name);
  const response = await service.fetch("/v1/documents", { method: "POST", body: form });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as DocumentView,
  };
}

export async function search(
  service: Service,
  query: string,
  body: Record<string, unknown> = {},
): Promise<SearchResult[]> {
  const answer = await service.post<{ results: SearchResult[] }>("/v1/documents/search", { query, ...body });
  if (answer.status !== 200) throw new Error(`no search: ${JSON.stringify(answer.body)}`);
  return answer.body.results;
}

export const textOf = async (service: Service, id: string): Promise<string> =>
  await (await service.fetch(`/v1/documents/${id}/text`)).text();
