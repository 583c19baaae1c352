// How handlers call the sidecar of a sandbox: held active meanwhile, and bytes passed on as they come.
import type { Activity } from '../sandboxes/activity.ts'
import type { GuestRequest } from '../sandboxes/guest.ts'
import type { Guests } from '../sandboxes/guests.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import { passOn } from './answers.ts'

export interface GuestCalls {
  readonly guests: Guests
  readonly activity: Activity
}

export const query = (values: Readonly<Record<string, string | number | undefined>>): string => {
  const set = Object.entries(values).filter(([, value]) => value !== undefined)
  return set.length === 0 ? '' : `?${new URLSearchParams(set.map(([name, value]) => [name, String(value)]))}`
}

/** The last event that a reader has: its cursor, or the header that a reconnecting browser sends. */
export function cursorOf(fromQuery: number | undefined, header: string | string[] | undefined): number | undefined {
  if (fromQuery !== undefined) return fromQuery
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined
}

type GuestCall<Answer> = (sandbox: SandboxRecord, request: GuestRequest) => Promise<Answer>

/** Calls one sidecar, holding the sandbox active meanwhile. */
export const caller =
  ({ guests, activity }: GuestCalls): (<Answer>(...args: Parameters<GuestCall<Answer>>) => Promise<Answer>) =>
  async (sandbox, request) => {
    const release = activity.hold(sandbox.id)
    try {
      return await guests.of(sandbox).call(request)
    } finally {
      await release()
    }
  }

/** Passes a streamed answer on, holding the sandbox active meanwhile. */
export const streamer =
  ({ guests, activity }: GuestCalls) =>
  async (sandbox: SandboxRecord, request: GuestRequest, outgoing: Parameters<typeof passOn>[1]): Promise<void> => {
    const release = activity.hold(sandbox.id)
    try {
      await passOn(await guests.of(sandbox).send(request), outgoing)
    } finally {
      await release()
    }
  }
