declare module "*.sql" {
  const text: string;
  export default text;
}

/** Files that are served as they are: `with { type: "file" }` gives their paths. */
declare module "swagger-ui-dist/swagger-ui-bundle.js" {
  const path: string;
  export default path;
}

declare module "swagger-ui-dist/swagger-ui.css" {
  const path: string;
  export default path;
}

declare module "swagger-ui-dist/favicon-32x32.png" {
  const path: string;
  export default path;
}

declare module "sqlite-vec-linux-x64/vec0.so" {
  const path: string;
  export default path;
}

declare module "sqlite-vec-linux-arm64/vec0.so" {
  const path: string;
  export default path;
}
