/** Signs, drawn here so that no page asks for them. All are ornaments: what they say stands beside them in words. */
import type { ComponentChildren } from 'preact'

const Sign = ({ children, class: name }: { children: ComponentChildren; class?: string | undefined }) => (
  <svg
    class={name ? `sign ${name}` : 'sign'}
    viewBox="0 0 24 24"
    fill="none"
    stroke="currentColor"
    stroke-width="2"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
    focusable="false"
  >
    {children}
  </svg>
)

export const Check = () => (
  <Sign>
    <path d="m5 12.5 4.5 4.5L19 7.5" />
  </Sign>
)
export const Cross = () => (
  <Sign>
    <path d="m6 6 12 12M18 6 6 18" />
  </Sign>
)
/** Points back, whichever way the language runs. */
export const Back = () => (
  <Sign class="turns">
    <path d="m14 6-6 6 6 6" />
  </Sign>
)
export const Onward = () => (
  <Sign class="turns">
    <path d="m10 6 6 6-6 6" />
  </Sign>
)
export const Attention = () => (
  <Sign>
    <circle cx="12" cy="12" r="9" />
    <path d="M12 7.5v5.5M12 16.5v.01" />
  </Sign>
)
export const Search = () => (
  <Sign>
    <circle cx="11" cy="11" r="6.5" />
    <path d="m20 20-4.2-4.2" />
  </Sign>
)
export const Eye = ({ open }: { open: boolean }) => (
  <Sign>
    <path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12Z" />
    <circle cx="12" cy="12" r="2.8" />
    {!open && <path d="m4 20 16-16" />}
  </Sign>
)
export const Outward = () => (
  <Sign class="turns">
    <path d="M9 5H6a1.5 1.5 0 0 0-1.5 1.5v11A1.5 1.5 0 0 0 6 19h11a1.5 1.5 0 0 0 1.5-1.5v-3M13 4.5h6.5V11M19 5l-8.5 8.5" />
  </Sign>
)
export const Clock = () => (
  <Sign>
    <circle cx="12" cy="12" r="9" />
    <path d="M12 7v5.2l3.3 2" />
  </Sign>
)
export const Lock = () => (
  <Sign>
    <rect x="5" y="10.5" width="14" height="9.5" rx="2" />
    <path d="M8 10.5V8a4 4 0 0 1 8 0v2.5" />
  </Sign>
)
export const Exit = () => (
  <Sign class="turns">
    <path d="M13.5 4.5H7A1.5 1.5 0 0 0 5.5 6v12A1.5 1.5 0 0 0 7 19.500h6.500M11 12h9m-3.500-3.500L20 12l-3.500 3.500" />
  </Sign>
)
export const Building = () => (
  <Sign>
    <path d="M4.500 20V5.500A1.500 1.500 0 0 1 6 4h7a1.500 1.500 0 0 1 1.500 1.500V20M14.500 10H18a1.500 1.500 0 0 1 1.500 1.500V20M3 20h18M8 8h3M8 12h3M8 16h3" />
  </Sign>
)
export const Flask = () => (
  <Sign>
    <path d="M9.500 3.500h5M10.500 3.500v6L5.300 18a1.700 1.700 0 0 0 1.500 2.500h10.400a1.700 1.700 0 0 0 1.500-2.500l-5.200-8.500v-6M8 15h8" />
  </Sign>
)
export const Paste = () => (
  <Sign>
    <rect x="3" y="5" width="18" height="14" rx="2" />
    <path d="M3 9.500h18M6.500 7.200v.01M9 7.200v.01M8 14h8" />
  </Sign>
)
export const Windows = () => (
  <Sign>
    <rect x="7.500" y="4" width="13" height="11" rx="1.500" />
    <path d="M4 8.500v10A1.500 1.500 0 0 0 5.500 20H17" />
  </Sign>
)
/** A line through a ring: what a fairlead is. Joins the two marks at the top. */
export const Joint = () => (
  <svg
    class="joint"
    viewBox="0 0 48 24"
    fill="none"
    stroke="currentColor"
    stroke-width="2"
    aria-hidden="true"
    focusable="false"
  >
    <path d="M0 12h15M33 12h15" stroke-dasharray="3 3" />
    <circle cx="24" cy="12" r="6" />
    <path d="M18 12h12" />
  </svg>
)
