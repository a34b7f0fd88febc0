/** The form of a workspace's name, which is its id. */
export const workspacePattern = "^[a-z0-9][a-z0-9_-]{0,63}$";
const form = new RegExp(workspacePattern);

export const workspaceFault =
  "must be 1 to 64 lower-case letters, digits, - and _, beginning with a letter or digit";

export const isWorkspace = (name: string): boolean => form.test(name);
