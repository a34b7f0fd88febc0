/** Whether the models answer: each is asked for a few tokens, the way turns ask it. */
import type { EmbeddingModel } from "../../models/embeddings.ts";
import { type Model, ModelFailure } from "../../models/model.ts";
import { type Finding, failed, ok } from "./finding.ts";

const tokensMax = 16;

/** @param secondsMax for the whole answer */
export async function examineModel(model: Model, address: string, secondsMax: number): Promise<Finding> {
  const name = "model";
  const startedMs = performance.now();
  const signal = AbortSignal.timeout(secondsMax * 1000);
  try {
    const request = {
      model: null,
      messages: [{ role: "user" as const, content: "Say yes." }],
      grounding: { profileFacts: [], memories: [], recalled: [], passages: [] },
      temperature: null,
      max_tokens: tokensMax,
    };
    await model.reply(request, signal, () => {});
    return ok(name, `${address} answered within ${Math.round(performance.now() - startedMs)} ms`);
  } catch (error) {
    return broken(name, address, error, secondsMax);
  }
}

export async function examineEmbedding(
  model: EmbeddingModel,
  address: string,
  secondsMax: number,
): Promise<Finding> {
  const name = "embedding";
  try {
    const [vector] = await model.embed(["A test."], AbortSignal.timeout(secondsMax * 1000));
    return ok(name, `${address} answered with ${vector!.length} dimensions`);
  } catch (error) {
    return broken(name, address, error, secondsMax);
  }
}

function broken(name: string, address: string, error: unknown, secondsMax: number): Finding {
  if (!(error instanceof ModelFailure)) {
    const advice = "see whether it is up, and whether a firewall or proxy is in the way";
    return failed(name, `${address} hasn't answered within ${secondsMax} s`, advice);
  }
  const { status, code } = error.upstream;
  const facts = [status, code].filter((fact) => fact !== undefined).join(", ");
  const said = facts === "" ? error.code : `${error.code} (${facts})`;
  return failed(name, `${address} failed: ${said}`, adviceFor(error));
}

function adviceFor({ code, upstream }: ModelFailure): string {
  const status = Number(upstream.status);
  if (status === 401 || status === 403)
    return "its key is wrong or may not use this model: see OPENAI_API_KEY and its like";
  if (status === 404) return "there is no such model, or the address is not the API's: most end in /v1";
  switch (code) {
    case "model_unreachable":
      return "see whether it is up and its address right, and whether a firewall or proxy is in the way";
    case "model_quota_exhausted":
      return "its quota is used up: see the account at its provider";
    case "model_overloaded":
      return "it has too much to do; PARLEY_FALLBACK_MODELS names others";
    case "model_timeout":
      return "it is too slow: see its load";
    case "model_rejected":
      return "it refuses what every turn asks: is it a model for chat (or, as PARLEY_EMBEDDING_MODEL, for embeddings)?";
    default:
      return "it doesn't speak OpenAI's protocol as it should: is the address that of its API?";
  }
}
