// How handlers call the sidecar of a sandbox: held active meanwhile, and bytes passed on as they come.
import type { Activity } from '../sandboxes/activity.ts'
import type { GuestRequest } from '../sandboxes/guest.ts'
import type { Guests } from '../sandboxes/guests.ts'
import type { Reader } from '../sandboxes/history.ts'
import type { Lifecycle } from '../sandboxes/lifecycle.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import { passOn } from './answers.ts'

export interface GuestCalls {
  readonly guests: Guests
  readonly lifecycle: Pick<Lifecycle, 'awake'>
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
type Outgoing = Parameters<typeof passOn>[1]

/** Who answers, until it is released. */
interface Answering {
  readonly guest: Reader['guest']
  release(): Promise<void> | void
}

/** The sidecar, which holds the sandbox active, and whose use resumes one that is to be resumed so. */
const sidecarOf =
  ({ guests, activity, lifecycle }: GuestCalls) =>
  async (sandbox: SandboxRecord): Promise<Answering> => {
    const guest = guests.of(await lifecycle.awake(sandbox))
    return { guest, release: activity.hold(sandbox.id) }
  }

const calling =
  (answering: (sandbox: SandboxRecord) => Promise<Answering>): (<Answer>(...args: Parameters<GuestCall<Answer>>) => Promise<Answer>) =>
  async (sandbox, request) => {
    const { guest, release } = await answering(sandbox)
    try {
      return await guest.call(request)
    } finally {
      await release()
    }
  }

const streaming =
  (answering: (sandbox: SandboxRecord) => Promise<Answering>) =>
  async (sandbox: SandboxRecord, request: GuestRequest, outgoing: Outgoing): Promise<void> => {
    const { guest, release } = await answering(sandbox)
    try {
      await passOn(await guest.send(request), outgoing)
    } finally {
      await release()
    }
  }

/** Calls one sidecar, holding the sandbox active meanwhile. */
export const caller = (parts: GuestCalls) => calling(sidecarOf(parts))

/** Passes a streamed answer on, holding the sandbox active meanwhile. */
export const streamer = (parts: GuestCalls) => streaming(sidecarOf(parts))

/** What agents did: of the sidecar, and while the sandbox is stopped of what it left. */
export const recordsOf =
  ({ guests, activity }: GuestCalls) =>
  async (sandbox: SandboxRecord): Promise<Answering> => {
    const { guest, release } = await guests.readerOf(sandbox)
    const rest = activity.hold(sandbox.id)
    return {
      guest,
      release: () => {
        release()
        return rest()
      },
    }
  }

/** The same as `caller` and `streamer`, for requests that only look. */
export const recordCaller = (parts: GuestCalls) => calling(recordsOf(parts))
export const recordStreamer = (parts: GuestCalls) => streaming(recordsOf(parts))
