/** For how long a connection may be silent. */
import type { Server } from "bun";

/**
 * Lets a connection be silent for as long as its turn is, until the returned function is called: the server keeps
 * such a setting beyond the request, so that a connection whose client has vanished would stay for ever.
 * @param server null where the app is called without one
 * @param idleSeconds the limit that holds again then
 */
export function neverIdle(server: Server<unknown> | null, request: Request, idleSeconds: number): () => void {
  server?.timeout(request, 0);
  return () => server?.timeout(request, idleSeconds);
}
