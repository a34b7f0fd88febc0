/** parley doctor: what is wrong, and what to do about it. */
import { parseArgs } from "node:util";
import { type Config, describeTarget, serviceKey } from "../config.ts";
import { addressOf } from "../models/openai-request.ts";
import { createParts } from "../services.ts";
import { usageError } from "./command.ts";
import { examineClockBy } from "./doctor/clock.ts";
import { type Finding, ok, skipped } from "./doctor/finding.ts";
import { examineConfiguration, examineDataDirectory, examineProcess } from "./doctor/machine.ts";
import { examineEmbedding, examineModel } from "./doctor/models.ts";
import { examineServer } from "./doctor/postgres.ts";
import { examineService } from "./doctor/service.ts";
import { toUrl } from "./service-client.ts";
import { visibleLine } from "./terminal.ts";

export const help = `parley doctor [--url URL] [--timeout SECONDS] [--json]

Examines what a service needs: its configuration, data directory, file system, disk space, database, open files, the
models (each is asked for a few tokens) and the clock. With DATABASE_URL it examines PostgreSQL instead of the data
directory: whether it is reached, its version, rights, encoding, connections, notifications and clock. It changes
nothing, and may run beside a service.
  --url URL           examines that service too, through whatever stands before it: TLS, its readiness, access with the
                      first of PARLEY_API_KEYS, and whether a stream arrives unbuffered, unchanged and uncut. For that
                      it starts turns of the user parley-doctor, stops them, and deletes their conversations.
  --timeout SECONDS   for each answer to begin; 15 if left out
  --json              {"ok", "findings": [{"name", "status", "detail", "advice"?}]}

How long a proxy bears silence isn't measured: it has to be more than the 10 s after which Parley sends a heartbeat.
Exit status 1 where something has failed, 0 otherwise.
`;

/** Sets the exit status. @throws CommandError where it is used wrongly */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      url: { type: "string" },
      timeout: { type: "string", default: "15" },
      json: { type: "boolean", default: false },
    },
  });
  const url = values.url === undefined ? null : toUrl(values.url);
  const secondsMax = Number(values.timeout);
  if (!(secondsMax >= 1 && secondsMax <= 600)) throw usageError("--timeout must be from 1 to 600 seconds");

  const { config, finding } = examineConfiguration();
  const findings = [finding];
  const told = (more: Finding[]): void => {
    findings.push(...more);
    if (!values.json) for (const each of more) console.log(lineOf(each));
  };
  if (!values.json) console.log(lineOf(finding));
  told(
    config === null
      ? [skipped("everything else here", "the configuration can't be used")]
      : await examine(config, secondsMax),
  );
  if (url !== null) told(await examineService(url, keyFor(config), secondsMax));

  const isOk = findings.every(({ status }) => status !== "failed");
  if (values.json) console.log(JSON.stringify({ ok: isOk, findings }, null, 2));
  else console.log(summaryOf(findings));
  process.exitCode = isOk ? 0 : 1;
}

async function examine(config: Config, secondsMax: number): Promise<Finding[]> {
  const { models, embedding, inspectDirectory, inspectServer } = createParts(config);
  const findings =
    inspectServer === null
      ? examineDataDirectory(config, inspectDirectory)
      : examineServer(config, await inspectServer(secondsMax));
  findings.push(...examineProcess(config));
  if (models.length === 0) findings.push(ok("model", "embedded: no language model is configured"));
  for (const { target, model } of models) {
    findings.push(await examineModel(model, describeTarget(target), secondsMax));
  }
  if (embedding !== null) {
    findings.push(await examineEmbedding(embedding.model, describeTarget(embedding.target), secondsMax));
  }
  const [first] = models;
  if (first !== undefined) findings.push(await examineClockBy(addressOf(first.target), secondsMax));
  return findings;
}

/** A key that can't be read is told with the configuration. */
const keyFor = (config: Config | null): string | null => (config === null ? null : serviceKey());

const marks = { ok: "ok", warning: "WARNING", failed: "FAILED", skipped: "skipped" };
const nameWidth = 20;
const indent = " ".repeat(9);

function lineOf({ name, status, detail, advice }: Finding): string {
  const line = `${marks[status].padEnd(8)} ${name.padEnd(nameWidth)} ${visibleLine(detail)}`;
  return advice === undefined ? line : `${line}\n${indent}${" ".repeat(nameWidth)} -> ${visibleLine(advice)}`;
}

function summaryOf(findings: readonly Finding[]): string {
  const count = (status: Finding["status"]): number =>
    findings.filter((each) => each.status === status).length;
  const [broken, doubtful] = [count("failed"), count("warning")];
  if (broken + doubtful === 0) return "\nNothing is wrong.";
  return `\n${broken} failed, ${doubtful} to look at.`;
}
