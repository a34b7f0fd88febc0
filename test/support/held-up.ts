/** The longest that this process itself was held up: what it saw late it can't hold against the service. */
export async function heldUpWhile<T>(work: () => Promise<T>): Promise<{ result: T; heldUpMs: number }> {
  let heldUpMs = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    heldUpMs = Math.max(heldUpMs, now - last - 10);
    last = now;
  }, 10);
  try {
    return { result: await work(), heldUpMs: Math.round(heldUpMs) };
  } finally {
    clearInterval(timer);
  }
}
