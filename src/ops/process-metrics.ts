/**
 * The process itself, under the names that all Prometheus clients give it. prom-client's own are of Node's inside: under
 * Bun half of them are zero or mean something else.
 */
import { readdirSync } from "node:fs";
import { version } from "../version.ts";
import type { Metrics } from "./metrics.ts";

const delayBuckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const sampleMs = 100;

/** Watches this process. @returns what ends the sampling of the event loop */
export function watchProcess(metrics: Metrics): () => void {
  const startSeconds = performance.timeOrigin / 1000;
  metrics.watchEach("parley_build_info", "The version that runs.", "version", () => ({ [version]: 1 }));
  metrics.watch("process_start_time_seconds", "When the process started, since 1970.", () => startSeconds);
  metrics.watch("process_cpu_seconds_total", "User and system CPU time.", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  metrics.watch("process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  // Not elsewhere than on Linux.
  const descriptors = openDescriptors();
  if (descriptors !== null) {
    metrics.watch("process_open_fds", "Open file descriptors.", () => openDescriptors() ?? 0);
  }
  return sampleEventLoop(
    metrics.seconds(
      "parley_event_loop_delay_seconds",
      `How much later than asked for a timer fires, looked at every ${sampleMs} ms.`,
      delayBuckets,
    ),
  );
}

function openDescriptors(): number | null {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return null;
  }
}

function sampleEventLoop(observe: (seconds: number) => void): () => void {
  let timer: Timer;
  const sample = (): void => {
    const dueMs = performance.now() + sampleMs;
    timer = setTimeout(() => {
      observe(Math.max(0, performance.now() - dueMs) / 1000);
      sample();
    }, sampleMs);
    timer.unref();
  };
  sample();
  return () => clearTimeout(timer);
}
