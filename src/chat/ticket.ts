/** Tickets open one turn's stream to a plain `EventSource`, which can send no key. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Scope, TurnRecord } from "../storage/store.ts";

/** A ticket works while its turn runs and so long after. */
const validAfterEndSeconds = 3600;

export class Tickets {
  /** @param secret shared by all instances */
  constructor(readonly secret: string) {}

  /**
   * The ticket of a turn: its workspace, and the HMAC-SHA256 (RFC 2104) of both. It holds no time; the turn's end limits
   * it.
   */
  sign(workspaceId: string, turnId: string): string {
    const signed = `stream ${workspaceId} ${turnId}`;
    return `${workspaceId}.${createHmac("sha256", this.secret).update(signed).digest("base64url")}`;
  }

  /** What a ticket opens: its turn in its workspace; null where it isn't this turn's. */
  scopeOf(turnId: string, ticket: string): Scope | null {
    const workspace_id = ticket.slice(0, Math.max(0, ticket.lastIndexOf(".")));
    const expected = Buffer.from(this.sign(workspace_id, turnId));
    const given = Buffer.from(ticket);
    const isValid = given.byteLength === expected.byteLength && timingSafeEqual(given, expected);
    return isValid ? { workspace_id, user_id: null } : null;
  }

  /** Whether tickets of this turn still work. */
  static isOpen({ ended_at }: TurnRecord, nowSeconds: number): boolean {
    return ended_at === null || nowSeconds <= ended_at + validAfterEndSeconds;
  }
}
