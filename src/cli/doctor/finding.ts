/** What an examination finds: one for each thing that was looked at. */
export interface Finding {
  /** What was looked at, in words. */
  name: string;
  /** `skipped`: it couldn't be looked at, for want of something else. */
  status: "ok" | "warning" | "failed" | "skipped";
  /** What was seen. */
  detail: string;
  /** What to do about it. */
  advice?: string;
}

export const ok = (name: string, detail: string): Finding => ({ name, status: "ok", detail });

export const skipped = (name: string, detail: string): Finding => ({ name, status: "skipped", detail });

export const warning = (name: string, detail: string, advice: string): Finding => ({
  name,
  status: "warning",
  detail,
  advice,
});

export const failed = (name: string, detail: string, advice: string): Finding => ({
  name,
  status: "failed",
  detail,
  advice,
});
