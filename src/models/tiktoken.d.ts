declare module "*.tiktoken" {
  /** Where the file is, on disk or inside the binary. */
  const path: string;
  export default path;
}
