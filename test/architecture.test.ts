/** The rules of the house, as import statements show them. The map is in src/README.md. */
import { describe, expect, test } from "bun:test";
import { dirname, join, normalize } from "node:path";

const src = new URL("../src/", import.meta.url).pathname;

interface Source {
  path: string;
  text: string;
  /** Without comments. */
  code: string;
  /** What it imports: packages by name, files by their path in src. Type-only imports are marked. */
  imports: { from: string; typeOnly: boolean }[];
}

const sources: Source[] = await Promise.all(
  [...new Bun.Glob("**/*.ts").scanSync(src)].toSorted().map(async (path) => {
    const text = await Bun.file(join(src, path)).text();
    const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
    return { path, text, code, imports: importsOf(path, code) };
  }),
);

/** Static and dynamic imports, re-exports and worker files. */
function importsOf(path: string, code: string): Source["imports"] {
  const found: Source["imports"] = [];
  const add = (specifier: string, typeOnly: boolean): void => {
    const from = specifier.startsWith(".") ? normalize(join(dirname(path), specifier)) : specifier;
    found.push({ from, typeOnly });
  };
  for (const [, type, specifier] of code.matchAll(
    /^(?:import|export)\s+(type\s)?[^;"']*?\sfrom\s+["']([^"']+)["']/gm,
  )) {
    add(specifier!, type !== undefined);
  }
  for (const [, specifier] of code.matchAll(/^import\s+["']([^"']+)["']/gm)) add(specifier!, false);
  for (const [, specifier] of code.matchAll(/\bimport\(\s*["']([^"']+)["']/g)) add(specifier!, false);
  return found;
}

/** Which files break a rule, as `file: what`. */
const breaches = (rule: (source: Source) => string[]): string[] =>
  sources.flatMap((source) => rule(source).map((what) => `${source.path}: ${what}`));

const isIn = (path: string, ...folders: string[]): boolean =>
  folders.some((folder) => path.startsWith(`${folder}/`));
const isPackage = (from: string, name: string): boolean => from === name || from.startsWith(`${name}/`);

test("the sources are read", () => {
  expect(sources.length).toBeGreaterThan(50);
  const app = sources.find(({ path }) => path === "app.ts")!;
  expect(app.imports).toContainEqual({ from: "elysia", typeOnly: false });
  expect(app.imports).toContainEqual({ from: "chat/routes.ts", typeOnly: false });
  const main = sources.find(({ path }) => path === "main.ts")!;
  expect(main.imports).toContainEqual({ from: "cli/serve.ts", typeOnly: false });
});

describe("elysia", () => {
  test("appears only in app.ts, http, routes, schemas, auth, limits and ops", () => {
    expect(
      breaches(({ path, imports }) =>
        path === "app.ts" ||
        isIn(path, "http", "auth", "limits", "ops") ||
        /(^|\/)(routes|schema)\.ts$/.test(path)
          ? []
          : imports
              .filter(({ from }) => isPackage(from, "elysia") || isPackage(from, "@elysiajs"))
              .map(({ from }) => from),
      ),
    ).toEqual([]);
  });
});

describe("schemas", () => {
  test("hold no bare t.Object, t.Record or t.Integer: see http/strict.ts", () => {
    expect(
      breaches(({ path, code }) =>
        path.endsWith("schema.ts")
          ? [...code.matchAll(/\b(?:t|Type)\.(?:Object|Record|Integer|Numeric)\b/g)].map(([bare]) => bare)
          : [],
      ),
    ).toEqual([]);
  });

  test("nor does any route", () => {
    expect(
      breaches(({ path, code }) =>
        path.endsWith("routes.ts")
          ? [...code.matchAll(/\b(?:t|Type)\.(?:Object|Record|Integer|Numeric)\b/g)].map(([bare]) => bare)
          : [],
      ),
    ).toEqual([]);
  });
});

describe("adapters", () => {
  const adapters = [
    "models/openai-compatible.ts",
    "models/openai-embeddings.ts",
    "models/embedded.ts",
    "models/retry.ts",
  ];
  const isAdapter = (from: string): boolean =>
    adapters.includes(from) || isIn(from, "storage/sqlite", "storage/postgres");

  test("are imported only by services.ts and by each other", () => {
    const allowed = (path: string): boolean => path === "services.ts" || isAdapter(path);
    expect(
      breaches(({ path, imports }) =>
        imports.map(({ from }) => from).filter((from) => isAdapter(from) && !allowed(path)),
      ),
    ).toEqual([]);
  });

  test("know nothing of routes, features and the app", () => {
    expect(
      breaches(({ path, imports }) =>
        isIn(path, "storage", "models")
          ? imports
              .map(({ from }) => from)
              .filter(
                (from) =>
                  isIn(
                    from,
                    "chat",
                    "conversations",
                    "documents",
                    "memory",
                    "users",
                    "http",
                    "auth",
                    "ops",
                    "cli",
                  ) || ["app.ts", "services.ts"].includes(from),
              )
          : [],
      ),
    ).toEqual([]);
  });

  test("the openai SDK is used in models alone, bun:sqlite in storage/sqlite alone", () => {
    expect(
      breaches(({ path, imports }) =>
        imports
          .map(({ from }) => from)
          .filter(
            (from) =>
              (isPackage(from, "openai") && !isIn(path, "models")) ||
              (from === "bun:sqlite" && !isIn(path, "storage/sqlite")),
          ),
      ),
    ).toEqual([]);
  });
});

describe("the environment", () => {
  test("is read in config.ts alone", () => {
    expect(
      breaches(({ path, code }) =>
        path === "config.ts"
          ? []
          : [...code.matchAll(/\b(?:process|Bun)\.env\b|import\.meta\.env\b/g)].map(([read]) => read),
      ),
    ).toEqual([]);
  });
});

describe("imports point one way", () => {
  test("errors.ts and ids.ts import nothing of ours", () => {
    const ours = sources
      .filter(({ path }) => ["errors.ts", "ids.ts"].includes(path))
      .flatMap(({ imports }) => imports);
    expect(ours.filter(({ from }) => from.endsWith(".ts"))).toEqual([]);
  });

  test("nothing imports main.ts, and only main.ts and cli import cli", () => {
    expect(
      breaches(({ path, imports }) =>
        imports
          .map(({ from }) => from)
          .filter(
            (from) => from === "main.ts" || (isIn(from, "cli") && path !== "main.ts" && !isIn(path, "cli")),
          ),
      ),
    ).toEqual([]);
  });

  test("only cli imports services.ts and app.ts, but for their types", () => {
    expect(
      breaches(({ path, imports }) =>
        imports
          .filter(
            ({ from, typeOnly }) =>
              ["services.ts", "app.ts"].includes(from) && !typeOnly && !isIn(path, "cli"),
          )
          .map(({ from }) => from),
      ),
    ).toEqual([]);
  });

  test("only app.ts imports routes", () => {
    expect(
      breaches(({ path, imports }) =>
        imports
          .filter(({ from }) => /\/routes\.ts$/.test(from) && from !== "http/routes.ts" && path !== "app.ts")
          .map(({ from }) => from),
      ),
    ).toEqual([]);
  });

  test("the ports import types alone", () => {
    const ports = sources
      .filter(({ path }) => /^storage\/[\w-]*store\.ts$/.test(path))
      .flatMap(({ imports }) => imports);
    expect(ports.length).toBeGreaterThan(2);
    expect(ports.filter(({ typeOnly }) => !typeOnly)).toEqual([]);
  });

  test("search is of words alone: it imports nothing of ours but itself", () => {
    expect(
      breaches(({ path, imports }) =>
        isIn(path, "search")
          ? imports
              .map(({ from }) => from)
              .filter((from) => from.endsWith(".ts") && !isIn(from, "search") && !isPackage(from, "stemmer"))
          : [],
      ),
    ).toEqual([]);
  });
});

describe("files", () => {
  test("are not longer than two ideas", () => {
    expect(breaches(({ text }) => (text.split("\n").length > 400 ? ["more than 400 lines"] : []))).toEqual(
      [],
    );
  });

  test("hold no any", () => {
    expect(
      breaches(({ text, code }) => {
        const excused = [...text.matchAll(/biome-ignore lint\/suspicious\/noExplicitAny/g)].length;
        const used = [...code.matchAll(/(?::|\bas|\|)\s+any\b|<any\b/g)].length;
        return used > excused ? [`${used} any`] : [];
      }),
    ).toEqual([]);
  });
});
