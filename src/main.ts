/** argv -> command. */
import { CommandError } from "./cli/command.ts";
import { ConfigError, liftFetchLimit, runAsInProduction } from "./config.ts";

interface Command {
  readonly help: string;
  run(args: string[]): void | Promise<void>;
}

/** Commands are loaded when they are used: `health` and `version` shouldn't wait for the whole service. */
const commands: Record<string, () => Promise<Command>> = {
  serve: () => import("./cli/serve.ts"),
  chat: () => import("./cli/chat.ts"),
  ingest: () => import("./cli/ingest.ts"),
  keys: () => import("./cli/keys.ts"),
  backup: () => import("./cli/backup.ts"),
  restore: () => import("./cli/restore.ts"),
  export: () => import("./cli/export.ts"),
  import: () => import("./cli/import.ts"),
  migrate: () => import("./cli/migrate.ts"),
  health: () => import("./cli/health.ts"),
  doctor: () => import("./cli/doctor.ts"),
  config: () => import("./cli/config.ts"),
  version: () => import("./cli/version.ts"),
  extract: () => import("./cli/extract.ts"),
};

const help = `parley: a chatbot backend

  parley [serve]     start the service
  parley chat        talk to a service in the terminal
  parley ingest      add files and folders to a service's documents
  parley keys        make, list and revoke keys
  parley backup      write all data to one file, while a service runs or not
  parley restore     put a backup in place
  parley export      write all data as JSON Lines
  parley import      add what an export holds
  parley migrate     move all data from SQLite to PostgreSQL
  parley health      ask whether a service is healthy
  parley doctor      find what is wrong, and what to do about it
  parley config      print the configuration that is in force
  parley version     print the version

parley COMMAND --help tells more about a command.
`;

async function main([first, ...rest]: string[]): Promise<void> {
  if (first === "--help" || first === "-h" || first === "help") return console.log(help.trimEnd());
  const named = first !== undefined && !first.startsWith("-");
  const name = first === "--version" ? "version" : named ? first : "serve";
  const args = named || first === "--version" ? rest : first === undefined ? [] : [first, ...rest];
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load === undefined) throw new CommandError(`there is no command ${name}: see parley --help`, 2);
  const asksHelp = args.includes("--help") || args.includes("-h");
  // Before anything is loaded, because the process starts again.
  if (name === "serve" && !asksHelp) {
    runAsInProduction();
    liftFetchLimit();
  }
  const command = await load();
  if (asksHelp) return console.log(command.help.trimEnd());
  await command.run(args);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof ConfigError) {
    for (const fault of error.faults) console.error(`parley: ${fault}`);
    process.exit(1);
  }
  if (error instanceof CommandError) {
    console.error(`parley: ${error.message}`);
    process.exit(error.exitCode);
  }
  if (error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS")) {
    console.error(`parley: ${error.message.split(". ")[0]}: see parley --help`);
    process.exit(2);
  }
  throw error;
}
