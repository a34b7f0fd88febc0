/** Keeping the data, over HTTP: backups. */
import { requireOperator } from "../auth/admin.ts";
import type { OpenViews } from "../auth/open-views.ts";
import type { Authenticate } from "../auth/principal.ts";
import type { Limits } from "../config.ts";
import { AppError } from "../errors.ts";
import { neverIdle } from "../http/idle.ts";
import { requestIdFrom } from "../http/request-id.ts";
import type { Requests } from "../http/requests.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import type { BackupProcess } from "./backup-process.ts";
import { docs } from "./docs.ts";

export interface KeepingServices {
  /** Null where the data is in PostgreSQL. */
  readonly backups: BackupProcess | null;
  readonly authenticate: Authenticate;
  readonly views: OpenViews;
  readonly requests: Requests;
  readonly limits: Limits;
}

export function keepingRoutes(prefix: string, services: KeepingServices) {
  const { backups, authenticate, views, requests, limits } = services;

  return authenticatedRoutes(prefix, authenticate).post(
    "/admin/backup",
    async ({ principal, request, server, set }) => {
      requireOperator(principal, "A backup");
      if (backups === null) {
        throw new AppError("not_found", {
          detail: "The data is in PostgreSQL: back it up with pg_dump, or with what its host offers.",
        });
      }
      const idleAgain = neverIdle(server, request, limits.connectionIdleSeconds);
      const backup = await backups.take(request.signal).finally(idleAgain);
      const file = requests.streamed(request, views.file(principal, request, backup));
      const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
      return new Response(file as unknown as ReadableStream, {
        headers: {
          "content-type": "application/vnd.sqlite3",
          "content-disposition": `attachment; filename="parley-${time}.db"`,
          "x-request-id": requestIdFrom(set),
        },
      });
    },
    { detail: docs.backup },
  );
}
