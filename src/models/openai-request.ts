/** Requests to any server that speaks OpenAI's protocol: how they are addressed, and what a refusal says. */
import { APIError } from "openai/error";
import type { ModelTarget } from "../config.ts";
import { readText } from "./chat-stream.ts";

const openAiUrl = "https://api.openai.com/v1";

/** Bytes of an error's body that are read; the rest can't matter. */
const errorBytesMax = 64 * 1024;

/** Where a target is served. */
export const addressOf = ({ baseUrl }: ModelTarget): URL => new URL(baseUrl ?? openAiUrl);

/** What all requests to a path of a target have in common. */
export interface Envelope {
  url: string;
  headers: Headers;
}

/**
 * Lets the SDK address a request once: it would build the same URL and headers again for each, which costs as much as
 * sending it. The SDK takes longer to load than the rest of the program, so it waits for the first request.
 */
export async function createEnvelope(target: ModelTarget, path: string): Promise<Envelope> {
  const { OpenAI } = await import("openai");
  const { apiKey } = target;
  const isAzure = addressOf(target).hostname.endsWith(".azure.com");
  const client = new OpenAI({
    baseURL: target.baseUrl ?? openAiUrl,
    // The SDK needs a string; without a key the header is left out.
    apiKey: apiKey ?? "none",
    defaultHeaders: {
      ...(apiKey === null && { Authorization: null }),
      ...(apiKey !== null && isAzure && { "api-key": apiKey }),
    },
    // What the SDK would otherwise read from the environment, and send to any server.
    organization: null,
    project: null,
    adminAPIKey: null,
    webhookSecret: null,
    logLevel: "off",
    maxRetries: 0,
  });
  const { url, req } = await client.buildRequest({ method: "post", path, body: {} });
  return { url, headers: new Headers(req.headers) };
}

/**
 * @param more headers of this request alone
 * @throws APIError for an answer of another status than 2xx, of whose body only the beginning is read
 */
export async function post(
  { url, headers: common }: Envelope,
  params: object,
  signal: AbortSignal,
  more: Readonly<Record<string, string>> = {},
): Promise<Response> {
  const body = JSON.stringify(params);
  const headers = new Headers(common);
  for (const [name, value] of Object.entries(more)) headers.set(name, value);
  // Bun's own idle limit is off: the limits of time are ours.
  const response = await fetch(url, { method: "POST", headers, body, signal, timeout: false } as RequestInit);
  if (response.ok) return response;
  const text = response.body === null ? "" : await readText(response.body, errorBytesMax).catch(() => "");
  const said = objectIn(text);
  throw APIError.generate(response.status, said, said === undefined ? text : undefined, response.headers);
}

/** The JSON object that a text is, if it is one; an error that stands bare is wrapped as OpenAI's is. */
function objectIn(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    return "error" in value && value.error != null ? value : { error: value };
  } catch {
    return undefined;
  }
}
