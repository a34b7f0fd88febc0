/**
 * The part of the storage port that keeps budgets: what admins set for a user, a key or a workspace, and what was spent
 * and is reserved in the present day and month of UTC.
 *
 * A turn that starts with a reservation is checked against the budgets of its user, key and workspace in the commit that
 * starts it; its end takes the reservation back and counts what it used, in the commit that ends it. What is used is
 * counted whether there are budgets or not, so that one that is set later knows of it. Nothing is summed up for that.
 */

export const budgetScopes = ["user", "key", "workspace"] as const;
export type BudgetScope = (typeof budgetScopes)[number];
export type BudgetPeriod = "day" | "month";
export type BudgetUnit = "tokens" | "nano_usd";

/** Limits by unit and period; null is none. */
export interface BudgetLimits {
  tokens_day: number | null;
  tokens_month: number | null;
  nano_usd_day: number | null;
  nano_usd_month: number | null;
}

/** What holds where nothing is set for one of them. */
export type DefaultBudgets = Readonly<Record<BudgetScope, BudgetLimits>>;

/** Whose budget it is. */
export interface BudgetSubject {
  workspace_id: string;
  scope: BudgetScope;
  /** The user, the principal's id or the workspace. */
  subject: string;
}

/** What was set; what it doesn't name is as configured. */
export interface BudgetRecord extends BudgetSubject {
  limits: Partial<BudgetLimits>;
  created_at: number;
  updated_at: number;
}

/** How one limit stands. */
export interface BudgetState {
  scope: BudgetScope;
  unit: BudgetUnit;
  period: BudgetPeriod;
  limit: number;
  used: number;
  /** By turns that run. */
  reserved: number;
  /** Unix seconds: when the next period begins. */
  renews_at: number;
}

/** The most that a turn may take. */
export interface Reservation {
  tokens: number;
  /** Null where a model that may answer has no price. */
  nano_usd: number | null;
  defaults: DefaultBudgets;
}

/** A position in the order of set budgets: the last one a client has seen. */
export type BudgetCursor = [scope: BudgetScope, subject: string];

export interface BudgetStore {
  /** Whether anything is set in a workspace. */
  hasBudgets(workspaceId: string): Promise<boolean>;
  /** What was set, by scope and subject. */
  budgets(
    workspaceId: string,
    limit: number,
    after: BudgetCursor | null,
  ): Promise<{ budgets: BudgetRecord[]; next: BudgetCursor | null }>;
  budget(subject: BudgetSubject): Promise<BudgetRecord | null>;
  /** Sets limits in place of those that were set before. */
  setBudget(subject: BudgetSubject, limits: Partial<BudgetLimits>, nowMs: number): Promise<BudgetRecord>;
  /** False where nothing was set. */
  deleteBudget(subject: BudgetSubject): Promise<boolean>;
  /** How the limits of one user, key or workspace stand, those that were set before those that are configured. */
  budgetState(subject: BudgetSubject, defaults: BudgetLimits, nowMs: number): Promise<BudgetState[]>;
  /** Forgets what was spent in periods that nothing is counted in any more. */
  deleteOldBudgetCounters(nowMs: number): Promise<void>;
}
