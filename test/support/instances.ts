/** Several instances of the service on one database. */
import type { Service, ServiceOptions } from "./service.ts";
import { startService } from "./service.ts";

export interface Instances extends AsyncDisposable {
  readonly all: readonly Service[];
}

/** Starts so many instances at the same time, as a deployment does. */
export async function startInstances(
  count: number,
  databaseUrl: string,
  options: ServiceOptions = {},
): Promise<Instances> {
  const env = { ...options.env, DATABASE_URL: databaseUrl };
  const all = await Promise.all(Array.from({ length: count }, () => startService({ ...options, env })));
  return {
    all,
    async [Symbol.asyncDispose]() {
      await Promise.all(all.map((service) => service[Symbol.asyncDispose]()));
    },
  };
}
