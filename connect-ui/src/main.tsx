import { render } from 'preact'
import './style.css'

render(<main>Connect</main>, document.getElementById('root')!)
