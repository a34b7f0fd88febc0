/** The storage can't be opened. The message says why and what to do, in a line for whoever runs the service. */
export class StorageUnusableError extends Error {
  override readonly name: string = "StorageUnusableError";
}
