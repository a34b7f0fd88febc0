/**
 * The path of a request, as it was sent. Without a URL parser, which throws where `Host` is strange or, as HTTP/1.0
 * allows, absent: `request.url` may then be a bare path.
 */
export const pathOf = ({ url }: Request): string =>
  url.replace(/^https?:\/\/[^/?#]*/, "").replace(/[?#].*$/s, "");
