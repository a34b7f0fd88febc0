/** Loaded into a service before it starts (`bun --preload`): at SIGUSR2 it prints what its heap holds after a collection. */
import { heapStats } from "bun:jsc";

process.on("SIGUSR2", () => {
  Bun.gc(true);
  console.log(JSON.stringify({ event: "heap", objects: heapStats().objectTypeCounts }));
});
