/** PostgreSQL, where DATABASE_URL says that the data is there: whether a service and more of them can work with it. */
import type { Config } from "../../config.ts";
import type { ServerFacts, ServerInspection } from "../../storage/inspection.ts";
import { type Finding, failed, ok, warning } from "./finding.ts";
import { examineKeys } from "./machine.ts";

/** The oldest that its makers still mend. */
const majorMin = 14;
const aheadMsMax = 5_000;

/** Beside those of PARLEY_DATABASE_CONNECTIONS_MAX an instance has three for other instances, and two to count requests. */
const connectionsBeside = 5;

export function examineServer(config: Config, inspection: ServerInspection): Finding[] {
  const place = placeOf(config.databaseUrl!);
  if ("unreached" in inspection) return [unreached(place, inspection)];
  return [
    examineVersion(place, inspection),
    examineDatabase(inspection),
    examineRights(inspection),
    examineEncoding(inspection),
    examineConnections(config, inspection),
    examineNotifications(inspection),
    examineClock(inspection),
    examineKeys(config, inspection.hasKeys),
  ];
}

/** Host, port and database; there is a password in the rest. */
function placeOf(databaseUrl: string): string {
  const { host, pathname } = new URL(databaseUrl);
  return host + pathname;
}

function unreached(
  place: string,
  { unreached, sqlState }: { unreached: string; sqlState: string | null },
): Finding {
  return failed("PostgreSQL", `${place} can't be used: ${unreached}`, adviceFor(sqlState, unreached));
}

function adviceFor(sqlState: string | null, said: string): string {
  switch (sqlState) {
    case "28P01":
    case "28000":
      return "the user or the password of DATABASE_URL is wrong, or pg_hba.conf lets it in from nowhere near";
    case "3D000":
      return "make the database first: createdb --owner=USER NAME";
    case "42501":
      return "let the role of DATABASE_URL own what is in its database: REASSIGN OWNED BY OTHER TO USER";
    case "42P05":
      return poolBySession;
    case "53300":
      return "raise max_connections of the server, or lower PARLEY_DATABASE_CONNECTIONS_MAX";
    case "08P01":
      return said.includes("startup parameter")
        ? "a pooler stands between. PgBouncer needs ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout and pool_mode = session"
        : "is it PostgreSQL that DATABASE_URL leads to?";
    default:
      if (/^(57P|25006)/.test(sqlState ?? "")) return "see whether it starts up, shuts down or is a standby";
      return said.includes("SSL")
        ? "what sslmode of DATABASE_URL says and what the server offers don't go together"
        : "see whether it is up and listens there, whether DATABASE_URL is right, and whether a firewall is in the way";
  }
}

const poolBySession =
  "a pooler between must pool by session: pool_mode = session of PgBouncer; or connect without it";

function examineVersion(place: string, { serverVersion, serverMajor, isReadOnly }: ServerFacts): Finding {
  const name = "PostgreSQL";
  const detail = `${place} is of version ${serverVersion}`;
  if (serverMajor < majorMin) return failed(name, detail, `use ${majorMin} or newer`);
  if (isReadOnly) {
    const advice = "let DATABASE_URL lead to the primary; with several hosts, to whatever follows it";
    return failed(name, `${detail}, and takes no writes: it is a standby, or set to read only`, advice);
  }
  return ok(name, detail);
}

function examineDatabase({ version, newest, isOthers, isMigrating }: ServerFacts): Finding {
  const name = "database";
  if (isOthers) {
    const advice = "give Parley a database of its own: createdb --owner=USER parley";
    return failed(name, "there are another program's tables in it", advice);
  }
  if (isMigrating) return ok(name, "an instance is bringing it to another version right now");
  if (version === null) return ok(name, "it is empty: the first start makes the tables");
  if (version > newest) {
    const advice = "use a newer Parley, or go back to a dump";
    return failed(name, `it is of version ${version}, and this Parley knows ${newest}`, advice);
  }
  const upgraded = version < newest ? `, which the next start brings to ${newest}` : "";
  return ok(name, `it is of version ${version}${upgraded}`);
}

function examineRights({ mayCreateTables, forbiddenTables, version, newest }: ServerFacts): Finding {
  const name = "rights";
  if (forbiddenTables.length > 0) {
    const some = forbiddenTables.slice(0, 3).join(", ");
    const more = forbiddenTables.length > 3 ? ` and ${forbiddenTables.length - 3} more` : "";
    const advice = "let this role own them: REASSIGN OWNED BY OTHER TO USER";
    return failed(name, `this role may not read and write ${some}${more}`, advice);
  }
  if (mayCreateTables) return ok(name, "this role may make tables, and read and write those that there are");
  const advice = "let this role own the database, or GRANT CREATE ON SCHEMA public TO USER";
  const detail = "this role may make no tables";
  if (version === newest) return warning(name, `${detail}, which a newer Parley will need`, advice);
  return failed(name, detail, advice);
}

function examineEncoding({ encoding }: ServerFacts): Finding {
  const name = "encoding";
  if (encoding === "UTF8") return ok(name, encoding);
  const advice = "make it anew: createdb --encoding=UTF8 --template=template0 NAME";
  return failed(name, `the database is in ${encoding}, which can't hold every text`, advice);
}

function examineConnections({ limits }: Config, { connections: { max, taken } }: ServerFacts): Finding {
  const name = "connections";
  const each = limits.databaseConnectionsMax + connectionsBeside;
  const instances = Math.floor(max / each);
  const detail = `it takes ${max}, of which ${taken} are taken; an instance may have ${each}`;
  const advice = "raise max_connections of the server, or lower PARLEY_DATABASE_CONNECTIONS_MAX";
  if (instances < 1) return failed(name, detail, advice);
  if (instances < 2) return warning(name, `${detail}: that is one instance and no second one`, advice);
  return ok(name, `${detail}: room for ${instances} in all`);
}

function examineNotifications({ hearsNotifications }: ServerFacts): Finding {
  const name = "notifications";
  if (hearsNotifications) return ok(name, "what one connection notifies, another hears");
  return failed(name, "what one connection notifies, another doesn't hear", poolBySession);
}

function examineClock({ clockAheadMs }: ServerFacts): Finding {
  const name = "database clock";
  const seconds = Math.round(Math.abs(clockAheadMs) / 1000);
  if (Math.abs(clockAheadMs) <= aheadMsMax) return ok(name, "it agrees with this machine's");
  const where = clockAheadMs > 0 ? "ahead of" : "behind";
  const advice = "set the clocks by NTP, on all machines: timedatectl set-ntp true";
  return warning(name, `it is ${seconds} s ${where} this machine's`, advice);
}
