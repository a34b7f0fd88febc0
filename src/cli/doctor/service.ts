/** A service at an address, and what stands before it: whether it answers, lets this key in, and is ready. */
import type { ReadinessReport } from "../../ops/readiness.ts";
import { version } from "../../version.ts";
import { reasonOf } from "../service-client.ts";
import { visibleLine } from "../terminal.ts";
import { examineClock } from "./clock.ts";
import { type Finding, failed, ok, skipped, warning } from "./finding.ts";
import { examineStream } from "./stream.ts";

/** Requests to the service that is examined: paths below its address, with the key, and a limit of time. */
export type Ask = (path: string, init?: RequestInit) => Promise<Response>;

/** @param key null sends none @param secondsMax for each answer to begin */
export async function examineService(base: URL, key: string | null, secondsMax: number): Promise<Finding[]> {
  const root = base.href.endsWith("/") ? base.href : `${base.href}/`;
  const ask: Ask = (path, init = {}) => {
    const headers = new Headers(init.headers);
    if (key !== null) headers.set("authorization", `Bearer ${key}`);
    const signal = init.signal ?? AbortSignal.timeout(secondsMax * 1000);
    return fetch(new URL(path, root), { ...init, headers, signal, redirect: "manual" });
  };
  const { findings, answers } = await examineHealth(base, ask, secondsMax);
  if (!answers) return [...findings, skipped("stream", "the service doesn't answer")];
  const access = await examineAccess(ask, key);
  findings.push(await examineReadiness(ask), access);
  if (access.status !== "ok") return [...findings, skipped("stream", "the service doesn't let this key in")];
  return [...findings, ...(await examineStream(ask, secondsMax))];
}

async function examineHealth(base: URL, ask: Ask, secondsMax: number) {
  const name = "service";
  let response: Response;
  try {
    response = await ask("health");
  } catch (error) {
    return {
      findings: [failed(name, unreached(base, error, secondsMax), adviceForUnreached(error))],
      answers: false,
    };
  }
  const through = response.headers.get("server") ?? response.headers.get("via");
  const by = through === null ? "" : ` (through ${visibleLine(through)})`;
  const body = (await response.json().catch(() => null)) as { status?: unknown; version?: unknown } | null;
  if (response.ok && body?.status === "healthy") {
    const theirs = visibleLine(String(body.version));
    const detail = `${base.origin} is healthy, of version ${theirs}${by}`;
    const finding =
      theirs === version ? ok(name, detail) : warning(name, detail, `this program is of version ${version}`);
    return { findings: [finding, examineClock(response.headers, base.host)], answers: true };
  }
  const detail = `${base.origin} answers /health with ${response.status}${by}`;
  return { findings: [failed(name, detail, adviceForStatus(response))], answers: false };
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "";
const isTls = (code: string): boolean => /CERT|TLS|SSL|EPROTO|ISSUER|SELF_SIGNED/.test(code);

function unreached(base: URL, error: unknown, secondsMax: number): string {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `${base.origin} hasn't answered within ${secondsMax} s`;
  }
  return `${base.origin} can't be reached: ${reasonOf(error)}`;
}

function adviceForUnreached(error: unknown): string {
  const code = codeOf(error);
  if (code === "ENOTFOUND") return "see whether its name is spelt right, and known to the DNS";
  if (code === "ECONNREFUSED")
    return "nothing listens there: see whether the service (or its proxy) runs, and its port";
  if (code === "CERT_HAS_EXPIRED") return "renew its certificate";
  if (isTls(code))
    return "give it a certificate of this name that clients trust, with its chain; or use http:// where it has none";
  return "see whether it runs, and whether a firewall is in the way";
}

function adviceForStatus({ status, headers }: Response): string {
  const location = headers.get("location");
  if (location !== null)
    return `it sends everybody elsewhere: give --url as ${visibleLine(location).replace(/\/?health$/, "")}`;
  if ([502, 503, 504].includes(status))
    return "the proxy is there, and the service behind it isn't: see whether it runs where proxy_pass says";
  if (status === 404) return "something else answers there, or the proxy takes a part of the path away";
  if (status === 401 || status === 403)
    return "what stands before the service asks for more: /health is open to all";
  return "something else than Parley answers there";
}

async function examineReadiness(ask: Ask): Promise<Finding> {
  const name = "readiness";
  try {
    const response = await ask("ready");
    const { status, checks } = (await response.json()) as ReadinessReport;
    const parts = Object.entries(checks);
    const broken = parts.filter(([, check]) => check.status === "failed").map(([part]) => part);
    const detail = parts.map(([part, check]) => `${part} ${check.status}`).join(", ");
    if (status !== "ready")
      return failed(name, visibleLine(detail), "its log tells why: it gets no requests like that");
    if (broken.length > 0)
      return warning(name, visibleLine(detail), "its log tells why; it serves all the same");
    return ok(name, visibleLine(detail));
  } catch (error) {
    return failed(
      name,
      `/ready makes no sense: ${reasonOf(error)}`,
      "something else than Parley answers there",
    );
  }
}

async function examineAccess(ask: Ask, key: string | null): Promise<Finding> {
  const name = "access";
  try {
    const response = await ask("v1/conversations?limit=1");
    const { detail } = (await response.json()) as { detail?: unknown };
    const said = `${response.status}: ${visibleLine(String(detail))}`;
    if (response.ok)
      return ok(name, key === null ? "it asks for no key" : "it takes the first of PARLEY_API_KEYS");
    if (response.status === 401)
      return failed(name, said, "set PARLEY_API_KEYS to one of its keys where parley doctor runs");
    if (response.status === 403)
      return failed(name, said, "set PARLEY_API_KEYS where the service runs, and here");
    return failed(name, said, "its log tells more, under the X-Request-Id of the answer");
  } catch (error) {
    return failed(name, `no sense in its answer: ${reasonOf(error)}`, "see what stands between");
  }
}
