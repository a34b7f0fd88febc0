/** The storage can't be opened. The message says why and what to do, in a line for whoever runs the service. */
export class StorageUnusableError extends Error {
  override readonly name: string = "StorageUnusableError";
}

/** One backup is taken at a time. */
export class BackupRunningError extends StorageUnusableError {
  override readonly name = "BackupRunningError";
}
