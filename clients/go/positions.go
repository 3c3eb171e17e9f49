package tidings

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "github.com/tidings/tidings/clients/go/tidingsv1"
)

// positions are those of one subscription.
//
// A pattern has no position. Hence, the channels received through it are tracked, at most `most` of them; the least
// recently active are dropped first. Each is resumed by its own name.
type positions struct {
	requested []string
	patterns  []string
	rewind    uint32
	most      int
	at        map[string]Position
	tracked   map[string]Position
	// order holds the names of `tracked`, the least recently active first.
	order []string
	// resumes says for each requested channel whether there is a position to resume from.
	resumes map[string]bool
	// sent is what the current stream was asked to resume.
	sent    map[string]Position
	opening bool
	// acks is nil unless the subscription is durable: then it resumes behind its cursors.
	acks *acks
	// cursors are the channels of a durable subscription that have one.
	cursors map[string]bool
}

func newPositions(channels []string, since map[string]Position, rewind uint32, most int) (*positions, error) {
	p := &positions{
		rewind: rewind, most: most, at: map[string]Position{}, tracked: map[string]Position{}, resumes: map[string]bool{},
		opening: true, cursors: map[string]bool{},
	}
	for _, channel := range channels {
		if slices.Contains(p.requested, channel) {
			continue
		}
		p.requested = append(p.requested, channel)
		if isPattern(channel) {
			p.patterns = append(p.patterns, channel)
		}
	}
	for name, position := range since {
		if !slices.ContainsFunc(channels, func(channel string) bool { return matches(channel, name) }) {
			return nil, fmt.Errorf("tidings: Since: %s is not among the channels", name)
		}
		p.move(name, position)
	}
	for _, channel := range p.requested {
		_, named := since[channel]
		p.resumes[channel] = named || isPattern(channel) && len(p.tracked) > 0
	}
	return p, nil
}

func (p *positions) all() map[string]Position {
	all := maps.Clone(p.tracked)
	maps.Copy(all, p.at)
	return all
}

// subscriptions is the request for a new stream.
func (p *positions) subscriptions() []*pb.Subscription {
	p.opening = true
	for channel := range p.cursors {
		delete(p.at, channel)
	}
	p.sent = p.all()
	var wanted []*pb.Subscription
	for _, channel := range slices.Concat(p.requested, p.order) {
		one := &pb.Subscription{Channel: channel}
		if position, known := p.sent[channel]; known {
			one.Since = position.message()
		} else if p.rewind > 0 && !isPattern(channel) {
			one.Rewind = p.rewind
		}
		wanted = append(wanted, one)
	}
	return wanted
}

// forgetTracked is for a server that accepts no more subscriptions: channels of patterns cannot be resumed.
func (p *positions) forgetTracked() []Step {
	var lost []Step
	for _, channel := range p.order {
		lost = append(lost, &Subscribed{Channel: channel, Recovery: Lost})
	}
	p.tracked, p.order = map[string]Position{}, nil
	return lost
}

// subscribed returns the state of each channel, or the error if a requested channel was refused.
func (p *positions) subscribed(message *pb.Subscribed) ([]Step, error) {
	var steps []Step
	for _, refused := range message.GetErrors() {
		channel := refused.GetChannel()
		if slices.Contains(p.requested, channel) {
			return nil, &Error{Code: refused.GetCode(), Message: refused.GetMessage(), Channel: channel}
		}
		// Its events still arrive through the pattern.
		if p.untrack(channel) && p.opening {
			steps = append(steps, &Subscribed{Channel: channel, Recovery: Lost})
		}
	}
	for _, entry := range message.GetChannels() {
		steps = append(steps, p.began(entry))
	}
	p.opening = false
	return steps, nil
}

func (p *positions) began(entry *pb.SubscribedChannel) *Subscribed {
	channel := entry.GetChannel()
	position := positionOf(entry.GetPosition())
	recovery := Lost
	if p.acks != nil && position != nil {
		return p.durableBegan(entry, *position)
	}
	if p.opening {
		_, sent := p.sent[channel]
		switch {
		case !sent && !p.resumes[channel]:
			recovery = Began
		case entry.GetRecovered():
			recovery = Recovered
		}
	}
	if _, requested := p.resumes[channel]; requested {
		p.resumes[channel] = true
	}
	return &Subscribed{
		Channel: channel, Position: position, Recovery: recovery, Replayed: entry.GetReplayed(),
		// Replayed events come before this position, and must not be skipped.
		moves: recovery != Recovered && !(p.opening && entry.GetReplayed() > 0),
	}
}

func (p *positions) durableBegan(entry *pb.SubscribedChannel, position Position) *Subscribed {
	channel := entry.GetChannel()
	p.cursors[channel] = true
	cursor := position.Offset
	if entry.Cursor != nil {
		cursor = entry.GetCursor()
	}
	behind := p.acks.resumed(channel, Position{position.Epoch, cursor})
	step := &Subscribed{
		Channel: channel, Position: &position, Recovery: Lost, Replayed: entry.GetReplayed(), Cursor: cursor,
	}
	if !p.opening || !entry.GetRecovered() {
		p.move(channel, position)
		return step
	}
	step.Recovery = Recovered
	// A position that the caller gave stays.
	if _, has := p.at[channel]; !has {
		p.move(channel, behind)
	}
	return step
}

// delivered moves the position of a step's channel, once the caller has the step.
func (p *positions) delivered(step Step) {
	switch step := step.(type) {
	case *Event:
		if step.Position != nil {
			p.move(step.Channel, *step.Position)
		}
	case *Gap:
		// Its offsets will not come, so they are not requested again after a reconnect.
		if before, known := p.all()[step.Channel]; known && step.To > before.Offset {
			p.move(step.Channel, Position{before.Epoch, step.To})
		}
	case *Subscribed:
		if step.Position == nil {
			delete(p.at, step.Channel)
			p.untrack(step.Channel)
		} else if step.moves {
			p.move(step.Channel, *step.Position)
		}
	}
}

// event returns the steps for an event: none if it was delivered before.
func (p *positions) event(event *Event) []Step {
	if event.Position == nil {
		return []Step{event}
	}
	before, known := p.at[event.Channel]
	if !known {
		before, known = p.tracked[event.Channel]
	}
	if known && before.Epoch == event.Position.Epoch && event.Position.Offset <= before.Offset {
		return nil
	}
	if known && before.Epoch != event.Position.Epoch {
		// This is the only sign of a new epoch for a subscription by pattern.
		begins := &Position{event.Position.Epoch, event.Position.Offset - 1}
		return []Step{&Subscribed{Channel: event.Channel, Position: begins, Recovery: Lost, moves: true}, event}
	}
	return []Step{event}
}

// gap returns the step for a gap: none if all of it was delivered before.
func (p *positions) gap(gap *Gap) []Step {
	before, known := p.all()[gap.Channel]
	if known && gap.To > 0 && gap.To <= before.Offset {
		return nil
	}
	return []Step{gap}
}

func (p *positions) move(channel string, position Position) {
	if slices.Contains(p.requested, channel) {
		p.at[channel] = position
		return
	}
	if len(p.patterns) == 0 || p.most == 0 {
		return
	}
	if len(p.order) == 0 || p.order[len(p.order)-1] != channel {
		p.untrack(channel)
		p.order = append(p.order, channel)
	}
	p.tracked[channel] = position
	if len(p.order) > p.most {
		p.untrack(p.order[0])
	}
}

func (p *positions) untrack(channel string) bool {
	if _, known := p.tracked[channel]; !known {
		return false
	}
	delete(p.tracked, channel)
	p.order = slices.DeleteFunc(p.order, func(name string) bool { return name == channel })
	return true
}

func isPattern(channel string) bool { return channel == "*" || strings.HasSuffix(channel, ":*") }

// matches reports whether the pattern is this channel, or matches it.
func matches(pattern, channel string) bool {
	namespace, _, _ := strings.Cut(channel, ":")
	return pattern == "*" || pattern == channel || isPattern(pattern) && namespace == strings.TrimSuffix(pattern, ":*")
}
