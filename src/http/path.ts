import { AppError } from "../errors.ts";

/**
 * The path of a request, as it was sent. Without a URL parser, which throws where `Host` is strange or, as HTTP/1.0
 * allows, absent: `request.url` may then be a bare path.
 */
export const pathOf = ({ url }: Request): string =>
  url.replace(/^https?:\/\/[^/?#]*/, "").replace(/\?.*$/s, "");

/**
 * A client that deletes the memory `..` of a user asks for `/v1/users/ada/`, because parsers of addresses fold such
 * segments before anything is sent: it doesn't mean the user.
 * @throws not_found
 */
export function refuseFoldedDelete(request: Request): void {
  if (request.method === "DELETE" && pathOf(request).endsWith("/")) {
    throw new AppError("not_found", { detail: "There is no such route." });
  }
}
