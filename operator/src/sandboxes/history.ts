import type { Guest } from './guest.ts'

/** Answers what there is to look at, as the sidecar would: until it is released. */
export interface Reader {
  readonly guest: Pick<Guest, 'send' | 'call'>
  release(): void
}

/** What agents did in sandboxes that are stopped, read from what their sidecars left. */
export interface History {
  /**
   * @param version of the record of the stopped sandbox: whatever was read at another one is old
   * @throws Failure `agent.history_unreadable`, also from the reader; `request.busy` when as many are read as may be
   */
  open(id: string, version: number): Promise<Reader>
  /** Nobody begins to read any more; who is at it has a moment. */
  close(id: string): void
  /** Resolves when nothing of it is left. */
  closeAll(): Promise<void>
}
