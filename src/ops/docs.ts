/** The API's documentation: the OpenAPI document, and Swagger UI out of the binary, without any network. */
import type { InternalRoute } from "elysia";
import favicon from "swagger-ui-dist/favicon-32x32.png" with { type: "file" };
import { version as uiVersion } from "swagger-ui-dist/package.json" with { type: "json" };
import styles from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import bundle from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };
import type { ErrorCode } from "../errors.ts";
import { json, operation } from "../http/docs.ts";
import { pathOf } from "../http/path.ts";
import { requestIdFrom } from "../http/request-id.ts";
import { openRoutes } from "../http/routes.ts";
import { securityHeaders } from "../http/security-headers.ts";
import { openApi } from "./openapi.ts";

/** The page needs its own files and the API, and the images inside the style sheet. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const guards = { ...securityHeaders, "content-security-policy": contentSecurityPolicy };

const script = "text/javascript; charset=utf-8";

/** @param folder where the page's files are, from the page */
const page = (folder: string): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parley API</title>
<link rel="icon" type="image/png" href="${folder}favicon.png">
<link rel="stylesheet" href="${folder}swagger-ui.css?v=${uiVersion}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="${folder}swagger-ui-bundle.js?v=${uiVersion}"></script>
<script src="${folder}initializer.js"></script>
</body>
</html>
`;

/** A file of its own, because the page may hold no script. */
const initializer = `SwaggerUIBundle({
  url: new URL("../openapi.json", document.currentScript.src).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
`;

/** Those whose address holds their version never change; all else is asked for again. */
const unchanging = "public, max-age=31536000, immutable";

const files = [
  { name: "swagger-ui.css", body: Bun.file(styles), type: "text/css; charset=utf-8", cache: unchanging },
  { name: "swagger-ui-bundle.js", body: Bun.file(bundle), type: script, cache: unchanging },
  { name: "initializer.js", body: initializer, type: script, cache: "no-cache" },
  { name: "favicon.png", body: Bun.file(favicon), type: "image/png", cache: "public, max-age=86400" },
];

const tag = "Operations";
const problems: ErrorCode[] = ["invalid_request", "forbidden", "rate_limited", "internal"];

/** @param routes the routes to document, read when the document is first asked for */
export function docsRoutes(routes: () => readonly InternalRoute[]) {
  let spec: Promise<string> | null = null;
  const group = openRoutes()
    .get(
      "/openapi.json",
      async ({ set }) => {
        spec ??= openApi(routes()).then((document) => JSON.stringify(document));
        return respond(await spec, "application/json", "no-cache", set);
      },
      {
        detail: operation({
          tag,
          id: "openapi",
          summary: "This document",
          description: "The API as OpenAPI 3.1.",
          security: [],
          answers: { 200: json("The document.", { openapi: "3.1.0" }) },
          problems,
        }),
      },
    )
    .get(
      "/docs",
      ({ request, set }) => {
        const folder = pathOf(request).endsWith("/") ? "./" : "./docs/";
        return respond(page(folder), "text/html; charset=utf-8", "no-cache", set);
      },
      {
        detail: operation({
          tag,
          id: "docs",
          summary: "This document as a page",
          description: "Swagger UI, out of the service itself: every request can be tried there.",
          security: [],
          answers: {
            200: { description: "The page.", content: { "text/html": { example: "<!doctype html>…" } } },
          },
          problems,
        }),
      },
    );
  for (const { name, body, type, cache } of files) {
    group.get(`/docs/${name}`, ({ set }) => respond(body, type, cache, set), { detail: { hide: true } });
  }
  return group;
}

function respond(
  body: string | Blob,
  type: string,
  cache: string,
  set: Parameters<typeof requestIdFrom>[0],
): Response {
  const headers = { ...guards, "content-type": type, "cache-control": cache };
  return new Response(body, { headers: { ...headers, "x-request-id": requestIdFrom(set) } });
}
