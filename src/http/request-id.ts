/** Every request has an id: the client's own where it is fit to be logged, else a new one. */

const acceptable = /^[\w.:-]{1,128}$/;

export const requestIdHeader = "x-request-id";

export function requestIdOf(request: Request): string {
  const given = request.headers.get(requestIdHeader);
  return given !== null && acceptable.test(given) ? given : `req_${Bun.randomUUIDv7()}`;
}

/** The id that this request's response will carry. */
export const requestIdFrom = (set: { headers: Record<string, unknown> }): string =>
  String(set.headers[requestIdHeader]);
