/** What /docs says about the chat routes. */
import { problems } from "../http/docs.ts";

const tags = ["Chat"];
const starting = problems(400, 401, 403, 404, 409, 413, 415, 422, 500, 502, 503, 504);
const reading = problems(400, 401, 403, 404, 500, 503);

export const docs = {
  chat: { tags, operationId: "chat", summary: "Start a turn and wait for its end", responses: starting },
  chatStream: { tags, operationId: "chatStream", summary: "Start a turn and stream it", responses: starting },
  chatEventSource: {
    tags,
    operationId: "chatEventSource",
    summary: "Start a turn and stream it to an EventSource",
    responses: starting,
  },
  startTurn: {
    tags,
    operationId: "startTurn",
    summary: "Start a turn and answer at once",
    responses: starting,
  },
  turn: { tags, operationId: "getTurn", summary: "Read a turn", responses: reading },
  stopTurn: { tags, operationId: "stopTurn", summary: "Stop a turn", responses: reading },
  turnStream: { tags, operationId: "streamTurn", summary: "Watch or resume a turn", responses: reading },
};
