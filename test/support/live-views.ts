/** Views of turns that are looked at while they grow. */
import { type Service, until } from "./service.ts";
import { type DoneData, sseEvents } from "./sse.ts";
import { resume } from "./turns.ts";

/** A view of a turn from the start of its stream on, of which `text` is what has come so far. */
export function follow(response: Response) {
  const view = { text: "", done: null as DoneData | null, whole: Promise.resolve() };
  view.whole = (async () => {
    for await (const { data, event } of sseEvents(response)) {
      const { token, done } = JSON.parse(data) as { token?: string; done?: boolean };
      if (event === undefined) view.text += token ?? "";
      if (done) view.done = JSON.parse(data) as DoneData;
    }
  })();
  return view;
}

/** Watches a turn and resolves when the view has come to this text. */
export async function followUntil(service: Service, id: string, text: string) {
  const view = follow(await resume(service, id, 0));
  await until(`the view holds ${text.length} characters`, () => view.text === text);
  return view;
}
